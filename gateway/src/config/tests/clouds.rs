//! Bedrock's section: its region, its credentials, and what AWS's own variables fill in. And Azure's deployments.

use super::*;
use crate::config::{AwsCredentials, Paths};

fn with(yaml: &str, variables: &[(&str, &str)]) -> Config {
    let env = Env::of(variables.iter().copied());
    load_text(None, yaml, &env, &Known::built_in()).unwrap_or_else(|errors| panic!("{errors}"))
}

fn host(yaml: &str, variables: &[(&str, &str)]) -> String {
    provider(&with(yaml, variables), "bedrock").upstream.host.clone()
}

fn signs_as(config: &Config) -> Option<(&str, &str, &str, Option<&str>)> {
    let aws: Option<&AwsCredentials> = provider(config, "bedrock").aws.as_ref();
    aws.map(|aws| {
        let token = aws.session_token.as_ref().map(|token| token.expose().as_str());
        (
            aws.region.as_str(),
            aws.access_key_id.as_str(),
            aws.secret_access_key.expose().as_str(),
            token,
        )
    })
}

const PLAIN: &str = "providers: {bedrock: {enabled: true, free: true}}";
const AWS: [(&str, &str); 4] = [
    ("AWS_ACCESS_KEY_ID", "AKIAENV"),
    ("AWS_SECRET_ACCESS_KEY", "envsecret"),
    ("AWS_SESSION_TOKEN", "envtoken"),
    ("AWS_DEFAULT_REGION", "eu-north-1"),
];

#[test]
fn the_region_leads_to_its_endpoint() {
    assert_eq!(host(PLAIN, &[]), "bedrock-runtime.us-east-1.amazonaws.com");
    let in_region = "providers: {bedrock: {enabled: true, free: true, region: eu-central-1}}";
    assert_eq!(host(in_region, &AWS), "bedrock-runtime.eu-central-1.amazonaws.com");
    assert_eq!(host(PLAIN, &AWS), "bedrock-runtime.eu-north-1.amazonaws.com");
    assert_eq!(
        host(
            PLAIN,
            &[("AWS_DEFAULT_REGION", "eu-north-1"), ("AWS_REGION", "cn-north-1")]
        ),
        "bedrock-runtime.cn-north-1.amazonaws.com.cn"
    );
}

#[test]
fn the_gateway_signs_with_what_the_section_or_awss_variables_say() {
    assert_eq!(signs_as(&with(PLAIN, &[])), None);
    assert_eq!(
        signs_as(&with(PLAIN, &AWS)),
        Some(("eu-north-1", "AKIAENV", "envsecret", Some("envtoken")))
    );
    let own =
        "providers: {bedrock: {enabled: true, free: true, access_key_id: AKIAFILE, secret_access_key: filesecret}}";
    assert_eq!(
        signs_as(&with(own, &AWS)),
        Some(("eu-north-1", "AKIAFILE", "filesecret", None)),
        "the token belongs to other credentials"
    );
    let ours = [
        ("AGENTLEDGER_PROVIDERS_EXTRA_BEDROCK_ACCESS_KEY_ID", "AKIAOURS"),
        ("AGENTLEDGER_PROVIDERS_EXTRA_BEDROCK_SECRET_ACCESS_KEY", "oursecret"),
        ("AWS_ACCESS_KEY_ID", "AKIAENV"),
    ];
    assert_eq!(
        signs_as(&with(PLAIN, &ours)),
        Some(("us-east-1", "AKIAOURS", "oursecret", None))
    );
    let by_host = "providers: {bedrock: {enabled: true, free: true, access_key_id: A, secret_access_key: s, \
                   upstream: \"https://vpce-1.bedrock-runtime.ap-south-1.vpce.amazonaws.com\"}}";
    assert_eq!(signs_as(&with(by_host, &[])), Some(("ap-south-1", "A", "s", None)));
}

#[test]
fn awss_variables_concern_nothing_else() {
    let config = with("", &AWS);
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    assert!(config.providers.iter().all(|provider| provider.aws.is_none()));
}

#[test]
fn half_of_the_credentials_are_a_fault() {
    for (fields, said) in [
        ("access_key_id: A", "needs secret_access_key"),
        ("secret_access_key: s", "needs access_key_id"),
        ("session_token: t", "is of no use without"),
        ("region: \"eu/../x\"", "must be a region's name"),
    ] {
        let yaml = format!("providers: {{bedrock: {{enabled: true, free: true, {fields}}}}}");
        let errors = load_text(None, &yaml, &none(), &Known::built_in())
            .err()
            .unwrap()
            .to_string();
        assert!(errors.contains(said), "{errors}");
    }
}

#[test]
fn azure_is_openai_behind_deployments() {
    let yaml = "providers: {azure: {enabled: true, free: true, upstream: \"https://res.openai.azure.com\", \
                deployments: {chat-prod: gpt-4o}}}";
    let config = with(yaml, &[]);
    let azure = provider(&config, "azure");
    assert_eq!((azure.dialect.as_str(), azure.paths), ("openai", Paths::Azure));
    assert_eq!(azure.deployments.get("chat-prod").map(String::as_str), Some("gpt-4o"));
    assert_eq!(provider(&config, "openai").paths, Paths::Plain);
}
