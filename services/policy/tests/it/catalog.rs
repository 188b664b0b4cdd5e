//! Policies for retrieval: through the generated client.

use std::sync::Arc;

use commonplace_policy::{Options, Policies};
use commonplace_proto::policy as proto;
use commonplace_proto::policy::policy_service_client::PolicyServiceClient;
use commonplace_rpc::{Channel, Code, Failure};
use commonplace_testkit::{Backend, Site, each_backend};
use commonplace_types::{ManualClock, Timestamp};
use tonic::service::Routes;

each_backend!(
    the_shipped_policies_are_there_at_once,
    a_put_adds_a_version_and_never_changes_one,
    what_is_wrong_is_refused_and_nothing_is_stored,
    what_is_unknown_is_named_with_what_there_is,
    puts_at_the_same_time_each_get_their_version,
);

type Client = PolicyServiceClient<Channel>;

async fn start(site: &Site, options: Options) -> (Policies, Client) {
    let clock = ManualClock::new(Timestamp::parse("2026-11-21T08:00:00Z").unwrap());
    let policies = commonplace_policy::start(options, site.place("policy"), Arc::new(clock))
        .await
        .unwrap();
    let channel = Channel::in_process(Routes::new(policies.service()).prepare());
    (policies, PolicyServiceClient::new(channel))
}

async fn get(client: &mut Client, id: &str, version: u64) -> Result<proto::Policy, Failure> {
    let request = proto::GetPolicyRequest {
        id: id.into(),
        version,
        ..Default::default()
    };
    match client.get_policy(request).await {
        Ok(answer) => Ok(answer.into_inner().policy.unwrap()),
        Err(status) => Err(Failure::from_status(&status)),
    }
}

async fn for_task(client: &mut Client, task: &str) -> String {
    let request = proto::GetPolicyRequest {
        task: task.into(),
        ..Default::default()
    };
    client
        .get_policy(request)
        .await
        .unwrap()
        .into_inner()
        .policy
        .unwrap()
        .id
}

fn request(id: &str, source: &str) -> proto::PutPolicyRequest {
    proto::PutPolicyRequest {
        id: id.into(),
        source: source.into(),
        ..Default::default()
    }
}

async fn put(
    client: &mut Client,
    request: proto::PutPolicyRequest,
) -> Result<proto::Policy, Failure> {
    match client.put_policy(request).await {
        Ok(answer) => Ok(answer.into_inner().policy.unwrap()),
        Err(status) => Err(Failure::from_status(&status)),
    }
}

async fn list(client: &mut Client, page_size: i32) -> Vec<String> {
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = proto::ListPoliciesRequest {
            page_size,
            page_token,
        };
        let answer = client.list_policies(request).await.unwrap().into_inner();
        found.extend(
            answer
                .policies
                .into_iter()
                .map(|policy| format!("{}@{}", policy.id, policy.version)),
        );
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            return found;
        }
    }
}

const SHIPPED: [&str; 7] = [
    "general@1",
    "qa_code_review_py@1",
    "qa_flaky_triage@1",
    "qa_regression@1",
    "qa_root_cause@1",
    "qa_smoke@1",
    "qa_test_gen@1",
];

async fn the_shipped_policies_are_there_at_once(backend: Backend) {
    let site = Site::new(backend);
    let (_policies, mut client) = start(&site, Options::default()).await;
    assert_eq!(list(&mut client, 0).await, SHIPPED);
    let general = get(&mut client, "general", 0).await.unwrap();
    assert!(general.active && general.builtin && general.version == 1);
    let weights = general.rules.unwrap().weights.unwrap();
    assert_eq!(
        (weights.lexical, weights.dense, weights.recency),
        (0.67, 0.33, 0.0)
    );
    for (task, policy) in [
        ("code_review", "qa_code_review_py"),
        ("flaky_triage", "qa_flaky_triage"),
        ("regression", "qa_regression"),
        ("root_cause", "qa_root_cause"),
        ("smoke", "qa_smoke"),
        ("test_gen", "qa_test_gen"),
        ("anything else", "general"),
        ("", "general"),
    ] {
        assert_eq!(for_task(&mut client, task).await, policy, "{task}");
    }
}

async fn a_put_adds_a_version_and_never_changes_one(backend: Backend) {
    let site = Site::new(backend);
    let (policies, mut client) = start(&site, Options::default()).await;
    let first = put(&mut client, request("mine", "tasks: [code_review]"))
        .await
        .unwrap();
    assert_eq!(
        (first.version, first.active, first.builtin),
        (1, true, false)
    );
    assert_eq!(
        for_task(&mut client, "code_review").await,
        "mine",
        "one's own comes before a shipped one"
    );
    assert_eq!(
        put(&mut client, request("mine", "tasks: [code_review]"))
            .await
            .unwrap(),
        first
    );

    let second = put(&mut client, request("mine", "candidates: 7"))
        .await
        .unwrap();
    assert_eq!((second.version, second.active), (2, false));
    assert_eq!(get(&mut client, "mine", 0).await.unwrap(), first);
    assert_eq!(get(&mut client, "mine", 2).await.unwrap(), second);
    let again = proto::PutPolicyRequest {
        activate: true,
        ..request("mine", "candidates: 7")
    };
    assert!(put(&mut client, again).await.unwrap().active);
    assert_eq!(get(&mut client, "mine", 0).await.unwrap().version, 2);
    assert_eq!(get(&mut client, "mine", 1).await.unwrap().hash, first.hash);
    assert_eq!(
        for_task(&mut client, "code_review").await,
        "qa_code_review_py"
    );

    let change = proto::PutPolicyRequest {
        activate: true,
        ..request("general", "candidates: 9")
    };
    assert_eq!(put(&mut client, change).await.unwrap().version, 2);
    assert!(get(&mut client, "general", 1).await.unwrap().builtin);
    let activate = proto::ActivatePolicyRequest {
        id: "general".into(),
        version: 1,
    };
    client.activate_policy(activate).await.unwrap();
    assert_eq!(get(&mut client, "general", 0).await.unwrap().version, 1);

    policies.shutdown().await.unwrap();
    let (_policies, mut client) = start(&site, Options::default()).await;
    let mut expected: Vec<&str> = SHIPPED.to_vec();
    expected.insert(1, "mine@2");
    assert_eq!(list(&mut client, 3).await, expected);
    assert_eq!(get(&mut client, "mine", 1).await.unwrap().hash, first.hash);
    assert_eq!(
        get(&mut client, "general", 2)
            .await
            .unwrap()
            .rules
            .unwrap()
            .candidates,
        9
    );
}

async fn what_is_wrong_is_refused_and_nothing_is_stored(backend: Backend) {
    let site = Site::new(backend);
    let one = Options {
        max_policies: 1,
        ..Options::default()
    };
    let (_policies, mut client) = start(&site, one).await;
    let failure = put(&mut client, request("mine", "weights:\n  lexical: loud"))
        .await
        .unwrap_err();
    assert_eq!(
        (failure.code, failure.reason.as_str()),
        (Code::InvalidArgument, "POLICY_INVALID")
    );
    assert_eq!(
        failure.message,
        "policy refused: line 2: `weights.lexical`: expected a number from 0 to 10, found `loud`"
    );
    assert_eq!(
        (
            failure.metadata["line"].as_str(),
            failure.metadata["key"].as_str()
        ),
        ("2", "weights.lexical")
    );
    let failure = put(&mut client, request("No", "{}")).await.unwrap_err();
    assert_eq!(failure.fields[0].field, "id");

    let check = proto::PutPolicyRequest {
        validate_only: true,
        ..request("mine", "{}")
    };
    assert_eq!(put(&mut client, check).await.unwrap().version, 1);
    assert_eq!(list(&mut client, 0).await, SHIPPED);

    put(&mut client, request("mine", "{}")).await.unwrap();
    let failure = put(&mut client, request("other", "{}")).await.unwrap_err();
    assert_eq!(failure.code, Code::ResourceExhausted);
    assert!(put(&mut client, request("mine", "rrf_k: 3")).await.is_ok());
    assert!(
        put(&mut client, request("general", "rrf_k: 3"))
            .await
            .is_ok()
    );
}

async fn what_is_unknown_is_named_with_what_there_is(backend: Backend) {
    let site = Site::new(backend);
    let (_policies, mut client) = start(&site, Options::default()).await;
    let failure = get(&mut client, "nope", 0).await.unwrap_err();
    assert_eq!(
        (failure.code, failure.reason.as_str()),
        (Code::NotFound, "POLICY_NOT_FOUND")
    );
    assert!(
        failure.message.contains("`nope`") && failure.message.contains("`qa_smoke`"),
        "{failure:?}"
    );
    let failure = get(&mut client, "general", 5).await.unwrap_err();
    assert!(
        failure.message.contains("no version 5, expected 1 to 1"),
        "{failure:?}"
    );
    let activate = proto::ActivatePolicyRequest {
        id: "general".into(),
        version: 5,
    };
    let status = client.activate_policy(activate).await.unwrap_err();
    assert_eq!(
        Failure::from_status(&status).reason,
        "POLICY_VERSION_NOT_FOUND"
    );
    for (page_size, page_token) in [(-1, ""), (0, "zz"), (0, "6162")] {
        let request = proto::ListPoliciesRequest {
            page_size,
            page_token: page_token.into(),
        };
        let status = client.list_policies(request).await.unwrap_err();
        assert_eq!(
            Failure::from_status(&status).code,
            Code::InvalidArgument,
            "{page_token}"
        );
    }
}

async fn puts_at_the_same_time_each_get_their_version(backend: Backend) {
    let site = Site::new(backend);
    let (_policies, client) = start(&site, Options::default()).await;
    let puts = (1..=20).map(|number| {
        let mut client = client.clone();
        tokio::spawn(
            async move { put(&mut client, request("mine", &format!("rrf_k: {number}"))).await },
        )
    });
    let mut versions = Vec::new();
    for put in puts.collect::<Vec<_>>() {
        versions.push(put.await.unwrap().unwrap().version);
    }
    versions.sort_unstable();
    assert_eq!(versions, (1..=20).collect::<Vec<u64>>());
}

/// A policy of one's own that differs from others by its candidates.
fn source(number: u32) -> String {
    format!("candidates: {}", 10 + number)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_share_a_database_number_versions_together() {
    let site = Site::new(Backend::Postgres);
    let (_one, first) = start(&site, Options::default()).await;
    let (_two, second) = start(&site, Options::default()).await;
    let puts = (0..24).map(|number| {
        let mut client = if number % 2 == 0 {
            first.clone()
        } else {
            second.clone()
        };
        tokio::spawn(async move { put(&mut client, request("mine", &source(number))).await })
    });
    let mut versions = Vec::new();
    for answer in puts.collect::<Vec<_>>() {
        versions.push(answer.await.unwrap().unwrap().version);
    }
    versions.sort_unstable();
    assert_eq!(versions, (1..=24).collect::<Vec<u64>>());
    let mut client = second.clone();
    for version in 1..=24 {
        get(&mut client, "mine", version).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_process_puts_and_activates_is_seen() {
    let site = Site::new(Backend::Postgres);
    let (_one, mut first) = start(&site, Options::default()).await;
    let (_two, mut second) = start(&site, Options::default()).await;
    put(&mut first, request("mine", &source(1))).await.unwrap();
    // A policy that is not known here is looked for at once.
    assert_eq!(get(&mut second, "mine", 0).await.unwrap().version, 1);
    let mut active = request("mine", &source(2));
    active.activate = true;
    put(&mut first, active).await.unwrap();
    // A version too; which one is active, within `refresh_ms`.
    assert!(get(&mut second, "mine", 2).await.is_ok());
    while get(&mut second, "mine", 0).await.unwrap().version != 2 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}
