//! The forms in which the original exports sums: its CSV, and its JSON.

use agentledger_ledger::Usd;

use crate::control::wire::CostRow;

const CSV_HEADER: &str = "provider,model,api_key_hash,agent_id,session_id,requests,input_tokens,output_tokens,cost_usd";

/// The contract's CSV; sums by user or tenant have one more column at the end.
pub fn csv(by: &str, rows: &[CostRow]) -> String {
    let mut out = String::from(CSV_HEADER);
    out.push_str(match by {
        "user" => ",user_id\n",
        "task" => ",task\n",
        "tenant" => ",tenant_id\n",
        _ => "\n",
    });
    for row in rows {
        let mut fields: Vec<String> = [&row.provider, &row.model, &row.key, &row.agent, &row.session]
            .map(|name| quoted(name))
            .to_vec();
        fields.extend([row.requests, row.input_tokens, row.output_tokens].map(|count| count.to_string()));
        fields.push(fixed(row.cost_usd, 6));
        match by {
            "user" => fields.push(quoted(&row.user)),
            "task" => fields.push(quoted(&row.task)),
            "tenant" => fields.push(quoted(&row.tenant)),
            _ => {}
        }
        out.push_str(&fields.join(","));
        out.push('\n');
    }
    out
}

fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\r', '\n']) || field.starts_with([' ', '\t']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

/// The contract's JSON: one line; `null` where there is nothing. Written by hand for two reasons: the order of the keys,
/// and a cost that is a JSON number but never a float here.
pub fn json(by: &str, rows: &[CostRow]) -> String {
    if rows.is_empty() {
        return "null\n".to_owned();
    }
    let text = |value: &str| serde_json::Value::from(value).to_string();
    let objects: Vec<String> = rows
        .iter()
        .map(|row| {
            let more = match by {
                "user" => format!(",\"UserID\":{}", text(&row.user)),
                "task" => format!(",\"Task\":{}", text(&row.task)),
                "tenant" => format!(",\"TenantID\":{}", text(&row.tenant)),
                _ => String::new(),
            };
            format!(
                "{{\"Provider\":{},\"Model\":{},\"APIKeyHash\":{},\"AgentID\":{},\"SessionID\":{},\"Requests\":{},\
                 \"InputTokens\":{},\"OutputTokens\":{},\"TotalCostUSD\":{}{more}}}",
                text(&row.provider),
                text(&row.model),
                text(&row.key),
                text(&row.agent),
                text(&row.session),
                row.requests,
                row.input_tokens,
                row.output_tokens,
                row.cost_usd,
            )
        })
        .collect();
    format!("[{}]\n", objects.join(","))
}

/// Dollars with so many decimals (at most nine), rounded half away from zero.
pub fn fixed(usd: Usd, places: u32) -> String {
    let nanos = i128::from(usd.nanos());
    let unit = 10i128.pow(9u32.saturating_sub(places));
    let rounded = (nanos.abs() + unit / 2) / unit;
    let scale = 10i128.pow(places);
    let sign = if nanos < 0 && rounded != 0 { "-" } else { "" };
    let width = usize::try_from(places).unwrap_or(9);
    format!("{sign}{}.{:0width$}", rounded / scale, rounded % scale)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn rows() -> Vec<CostRow> {
        vec![CostRow {
            provider: "openai".into(),
            model: "a \"quoted\", one".into(),
            requests: 2,
            input_tokens: 10,
            output_tokens: 5,
            cost_usd: Usd::from_nanos(3_750_001),
            ..CostRow::default()
        }]
    }

    #[test]
    fn csv_is_the_contracts() {
        let expected = "provider,model,api_key_hash,agent_id,session_id,requests,input_tokens,output_tokens,cost_usd\n\
                        openai,\"a \"\"quoted\"\", one\",,,,2,10,5,0.003750\n";
        assert_eq!(csv("model", &rows()), expected);
        assert_eq!(csv("model", &[]), format!("{CSV_HEADER}\n"));
        assert_eq!(csv("tenant", &[]), format!("{CSV_HEADER},tenant_id\n"));
    }

    #[test]
    fn json_is_one_line_in_pascal_case_and_empty_is_null() {
        let expected = "[{\"Provider\":\"openai\",\"Model\":\"a \\\"quoted\\\", one\",\"APIKeyHash\":\"\",\"AgentID\":\"\",\
                        \"SessionID\":\"\",\"Requests\":2,\"InputTokens\":10,\"OutputTokens\":5,\"TotalCostUSD\":0.003750001}]\n";
        assert_eq!(json("model", &rows()), expected);
        assert_eq!(json("model", &[]), "null\n");
        let value: serde_json::Value = serde_json::from_str(&json("user", &rows())).unwrap();
        assert_eq!(value[0]["UserID"], "");
    }
}
