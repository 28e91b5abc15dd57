//! Texts and what is read of them, beside Luau's own compiler.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
use mlua::chunk::Compiler;

use super::*;

/// Texts that Luau takes, and this reader too.
const SOUND: [&str; 40] = [
    "",
    "return",
    "return {}",
    "return { a = 1, ['b'] = 2, 3; 4, }",
    "local a, b = 1",
    "local a: number, b: { [string]: any }? = 1, {}",
    "local x: (number, string) -> (boolean, ...any) = f",
    "local x: typeof(f(1)) | nil & string = nil",
    "local function f<T>(a: T, ...: number): T? return a end",
    "type A = { a: number, b: (A) -> () } | \"x\"\nexport type B<T, U...> = (T) -> U...",
    "function a.b.c:d(x) return self end",
    "if a then elseif b then else end",
    "if a then return end",
    "while a do break end",
    "repeat local x = f() until x",
    "for i = 1, 2 do continue end",
    "for i = 1, 2, 3 do end for a, b in c, d do end",
    "a.b[c].d = 1",
    "a, b.c = 1, 2",
    "a += 1; a.b ..= 'x' a //= 2",
    "f 'x' f [[x]] f {} f `x{y}`",
    "a.b:c(1):d{}.e()",
    "(a or b)(c)",
    "local x = if a then b elseif c then d else e",
    "local x = -a ^ -b .. #c == not d",
    "local x = a and b or c",
    "local x = (f()) :: number + 1",
    "local x = function(...) return ... end",
    "local x = `{a} and {if b then `{c}` else 'd'}`",
    "local continue = 1 continue = 2",
    "local type = 1 type = 2 type.a = 3",
    "@native local function f() end",
    "do local a <const> = nil end",
    "return f(...)",
    "local a = 1; ; ;",
    "goto_ = 1",
    "local t = { f = function(self) end, [1] = 2, g }",
    "local a = { b = if c then 1 else 2 }",
    "for _, x in { 1, 2 } do print(x) end",
    "local a: A.B<number> = x :: any :: A.B<number>",
];

#[test]
fn what_luau_takes_is_read() {
    for text in SOUND {
        let compiled = Compiler::new().compile(text);
        let read = parse(text);
        // A text in the list that Luau refuses is there to see that nothing breaks.
        if compiled.is_ok() {
            assert!(read.is_ok(), "{text}: {read:?}");
        }
    }
}

#[test]
fn what_luau_refuses_has_a_place() {
    for (text, line, column) in [
        ("return { a = }", 1, 14),
        ("local = 1", 1, 7),
        ("if a the b end", 1, 6),
        ("\n\nfor x of y do end", 3, 7),
        ("return {\n\tname = 'x'\n\tversion = '1' }", 3, 2),
        ("x", 1, 2),
        ("f(", 1, 3),
        ("end", 1, 1),
        ("local a = 1 +", 1, 14),
    ] {
        assert!(Compiler::new().compile(text).is_err(), "{text}");
        let wrong = parse(text).unwrap_err();
        assert_eq!((wrong.at.line, wrong.at.column), (line, column), "{text}: {wrong:?}");
    }
}

#[test]
fn what_stands_too_deep_is_refused_and_breaks_nothing() {
    for (open, close) in [
        ("(", ")"),
        ("{", "}"),
        ("function() return ", " end"),
        ("- ", ""),
        ("a^", ""),
    ] {
        let text = format!("return {}1{}", open.repeat(5_000), close.repeat(5_000));
        assert!(parse(&text).is_err(), "{open}");
    }
    assert!(parse(&format!("return {}", "a ..".repeat(5_000))).is_err());
    assert!(parse(&"if a then ".repeat(5_000)).is_err());
}

#[test]
fn precedence_is_luaus() {
    fn shown(expression: &Expression) -> String {
        match &expression.kind {
            Kind::Name(name) => name.clone(),
            Kind::Unary(of) => format!("[{}]", shown(of)),
            Kind::Either(sign, left, right) => format!("({} {sign} {})", shown(left), shown(right)),
            Kind::Binary(left, right) => format!("({} {})", shown(left), shown(right)),
            other => panic!("{other:?}"),
        }
    }
    for (text, expected) in [
        ("a or b and c", "(a or (b and c))"),
        ("a and b or c", "((a and b) or c)"),
        ("a .. b .. c", "(a (b c))"),
        ("a - b - c", "((a b) c)"),
        ("not a == b", "([a] b)"),
        ("-a ^ b", "[(a b)]"),
        ("a ^ -b", "(a [b])"),
        ("a + b * c < d", "((a (b c)) d)"),
    ] {
        let file = parse(&format!("return {text}")).unwrap();
        let Act::Return(values) = &file.statements[0].kind else {
            panic!()
        };
        assert_eq!(shown(&values[0]), expected, "{text}");
    }
}
