//! What policies read of the ledger.
use super::*;

#[test]
fn balances_are_read_once_and_recorded() {
    struct Counting(std::sync::atomic::AtomicI64);
    impl Balances for Counting {
        fn read(&self, accounts: &[Name], _: &Zone) -> Vec<AccountBalances> {
            let moment = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let posted = Amounts::of_request(Usd::from_nanos(1_500_000_000 + moment), 0);
            let held = Amounts {
                requests: 7,
                ..Amounts::ZERO
            };
            let balances = AccountBalances {
                held,
                ..AccountBalances::default()
            };
            vec![balances.with_posted(Window::Day, posted); accounts.len()]
        }
    }
    let mut bed = Bed::of(
        r#"
        local first = spent("key:f1", "day")
        assert(first == 1.5 and first == spent("key:f1", "day"), first)
        assert(held("global", "requests") == 7)
        "#,
    );
    bed.balances = Arc::new(Counting(0.into()));
    let reads = bed.ask(&Call::default()).unwrap().reads.balances;
    assert_eq!(reads.len(), 2);
    assert_eq!(
        (reads[0].value, reads[0].window, reads[1].window),
        (1_500_000_000, Some(Window::Day), None)
    );
    // The next evaluation has a snapshot of its own.
    assert!(bed.ask(&Call::default()).is_err());
}

/// Every reading finds another dollar moved from what is held to what is spent.
struct Settling(std::sync::atomic::AtomicI64);

impl Balances for Settling {
    fn read(&self, accounts: &[Name], _: &Zone) -> Vec<AccountBalances> {
        let settled = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let usd = |whole: i64| Amounts::of_request(Usd::from_nanos(whole * 1_000_000_000), 0);
        let balances = AccountBalances {
            held: usd(100 - settled),
            ..AccountBalances::default()
        };
        let spent = |balances: AccountBalances, window| balances.with_posted(window, usd(settled));
        vec![Window::ALL.into_iter().fold(balances, spent); accounts.len()]
    }
}

#[test]
fn an_exchange_that_settles_while_a_policy_reads_is_neither_missed_nor_doubled() {
    let mut bed = Bed::of(
        r#"
        assert(spent("key", "day") + held("key") == 100 and spent("key", "month") == spent("key", "day"))
        return header{ name = "X-Other", value = tostring(spent("tenant", "day") - spent("key", "day")) }
        "#,
    );
    bed.balances = Arc::new(Settling(5.into()));
    let moments = [(); 3].map(|()| bed.ask(&Call::default()).unwrap().headers[0].1.clone());
    assert_eq!(
        moments,
        ["1", "0", "0"],
        "once they are expected, all accounts are of one moment"
    );
}

#[test]
fn a_zone_that_does_not_exist_is_named_and_not_taken_for_utc() {
    let bed = Bed::of("return spent('key', 'day') > 0 and deny{ code = 'no' } or nil");
    let call = Call::default();
    let facts = CallFacts {
        zone: "Mars/Olympus",
        ..call.facts()
    };
    let failure = bed.engine.request(&bed.set.load(), &facts, &bed.balances).unwrap_err();
    assert!(
        failure.message.contains("unknown time zone \"Mars/Olympus\""),
        "{failure}"
    );
}
