//! Mutual TLS: who gets in, who is believed, and certificates that change under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use commonplace_rpc::server::{Server, ServerOptions};
use commonplace_rpc::{
    AllowList, Channel, Code, Failure, Layered, Limits, RemoteOptions, Tls, TlsOptions, Trust,
    context,
};
use commonplace_telemetry::Metrics;

use crate::common::certificates::{Authority, Files, put};
use crate::common::{READ, WRITE, call, message, options, until};

/// A journal that takes calls from whom the mesh allows; counts them.
async fn journal(tls: Tls) -> (Server, Arc<AtomicUsize>) {
    let options = ServerOptions {
        tls: Some(tls),
        allow: Some(AllowList::mesh()),
        ..ServerOptions::default()
    };
    let server = Server::bind_with("127.0.0.1:0", options).await.unwrap();
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    let service = tower::service_fn(move |_: http::Request<tonic::body::Body>| {
        count.fetch_add(1, Ordering::SeqCst);
        async {
            let principal = context::principal().unwrap();
            assert!(principal.is_service() && principal.subject.as_str() == "ingest");
            Ok(message())
        }
    });
    server.open(Layered::new(service, Limits::default(), Metrics::new()));
    (server, seen)
}

fn secure(tls: Tls, role: &str) -> RemoteOptions {
    RemoteOptions {
        tls: Some(tls),
        peer_role: Some(role.into()),
        patience: Duration::from_millis(300),
        ..options()
    }
}

fn channel(server: &Server, options: &RemoteOptions) -> Channel {
    let channel = Channel::remote(&[format!("https://{}", server.address())], options);
    channel.unwrap().in_name_of("ingest")
}

async fn read(channel: &Channel) -> Result<(), Failure> {
    call(channel, READ, Duration::from_secs(20)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_call_is_let_in_and_known() {
    let authority = Authority::new("mesh");
    let (server, seen) = journal(Files::new("journal", &authority).tls()).await;
    let channel = channel(
        &server,
        &secure(Files::new("ingest", &authority).tls(), "journal"),
    );
    read(&channel).await.unwrap();
    assert_eq!(seen.load(Ordering::SeqCst), 1);
}

/// Where a port asks for no certificate, whoever trusts its authority may call, and nobody else's.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_without_a_certificate_knows_whom_it_calls() {
    let (authority, other) = (Authority::new("gateway"), Authority::new("other"));
    let files = Files::new("gateway", &authority);
    let open = TlsOptions {
        optional: true,
        ..files.options.clone()
    };
    let options = ServerOptions {
        tls: Some(Tls::start(&open, None).unwrap()),
        ..ServerOptions::default()
    };
    let server = Server::bind_with("127.0.0.1:0", options).await.unwrap();
    let service = tower::service_fn(|_: http::Request<tonic::body::Body>| async { Ok(message()) });
    server.open(Layered::new(service, Limits::default(), Metrics::new()));
    let address = format!("https://localhost:{}", server.address().port());
    let trusting = |trust: Trust| {
        let options = RemoteOptions {
            trust: Some(trust),
            patience: Duration::from_millis(300),
            ..self::options()
        };
        Channel::remote(std::slice::from_ref(&address), &options).unwrap()
    };
    let trust = Trust::load(&files.options.authority).unwrap();
    read(&trusting(trust)).await.unwrap();
    files.trust(&[&other]);
    let trust = Trust::load(&files.options.authority).unwrap();
    let failed = read(&trusting(trust)).await.unwrap_err();
    assert_eq!(failed.code, Code::Unavailable, "{failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_without_an_arrow_is_refused() {
    let authority = Authority::new("mesh");
    let (server, seen) = journal(Files::new("journal", &authority).tls()).await;
    let channel = channel(
        &server,
        &secure(Files::new("retrieval", &authority).tls(), "journal"),
    );
    let failed = read(&channel).await.unwrap_err();
    assert_eq!(
        (failed.code, failed.reason.as_str()),
        (Code::PermissionDenied, "PEER_NOT_ALLOWED")
    );
    assert!(
        failed
            .message
            .contains("spiffe://commonplace.local/retrieval"),
        "{failed:?}"
    );
    assert_eq!(seen.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_another_role_is_not_talked_to() {
    let authority = Authority::new("mesh");
    let (server, seen) = journal(Files::new("policy", &authority).tls()).await;
    let channel = channel(
        &server,
        &secure(Files::new("ingest", &authority).tls(), "journal"),
    );
    let failed = read(&channel).await.unwrap_err();
    assert_eq!(
        (failed.code, failed.reason.as_str()),
        (Code::Unavailable, "PEER_UNREACHABLE")
    );
    let expected = "the peer is spiffe://commonplace.local/policy, expected spiffe://commonplace.local/journal";
    assert!(failed.message.contains(expected), "{failed:?}");
    assert_eq!(seen.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_authority_is_believed_by_neither_side() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let (server, _) = journal(Files::new("journal", &theirs).tls()).await;
    let failed = read(&channel(
        &server,
        &secure(Files::new("ingest", &ours).tls(), "journal"),
    ))
    .await
    .unwrap_err();
    assert_eq!(failed.code, Code::Unavailable);
    assert!(failed.message.contains("UnknownIssuer"), "{failed:?}");

    // A caller that believes the server, but shows a certificate of its own making.
    let (server, seen) = journal(Files::new("journal", &ours).tls()).await;
    let files = Files::new("ingest", &theirs);
    files.trust(&[&theirs, &ours]);
    let failed = read(&channel(&server, &secure(files.tls(), "journal")))
        .await
        .unwrap_err();
    assert_eq!(failed.code, Code::Unavailable);
    assert_eq!(seen.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_without_tls_gets_nowhere() {
    let authority = Authority::new("mesh");
    let (server, seen) = journal(Files::new("journal", &authority).tls()).await;
    let options = RemoteOptions {
        patience: Duration::from_millis(300),
        ..options()
    };
    let plain = Channel::remote(&[format!("http://{}", server.address())], &options).unwrap();
    assert_eq!(read(&plain).await.unwrap_err().code, Code::Unavailable);
    assert_eq!(seen.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_without_a_certificate_gets_nowhere() {
    use tokio::io::AsyncReadExt;
    let authority = Authority::new("mesh");
    let (server, _) = journal(Files::new("journal", &authority).tls()).await;
    let mut roots = rustls::RootCertStore::empty();
    use rustls::pki_types::pem::PemObject;
    roots
        .add(rustls::pki_types::CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(server.address())
        .await
        .unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    // TLS 1.3 tells the client only after its own part is done.
    let mut stream = connector.connect(name, stream).await.unwrap();
    let error = stream.read(&mut [0; 1]).await.unwrap_err();
    assert!(error.to_string().contains("CertificateRequired"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_not_believed() {
    let authority = Authority::new("mesh");
    let files = Files::ending("journal", &authority, 2);
    let (server, _) = journal(files.tls()).await;
    tokio::time::sleep(Duration::from_millis(3_100)).await;
    let failed = read(&channel(
        &server,
        &secure(Files::new("ingest", &authority).tls(), "journal"),
    ))
    .await
    .unwrap_err();
    assert_eq!(failed.code, Code::Unavailable);
    assert!(
        failed.message.to_lowercase().contains("expired"),
        "{failed:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_role_the_name_of_the_host_counts() {
    let authority = Authority::new("mesh");
    let (server, _) = journal(Files::new("journal", &authority).tls()).await;
    let options = RemoteOptions {
        peer_role: None,
        ..secure(Files::new("ingest", &authority).tls(), "")
    };
    let port = server.address().port();
    let by_name = Channel::remote(&[format!("https://localhost:{port}")], &options);
    let by_name = by_name.unwrap().in_name_of("ingest");
    read(&by_name).await.unwrap();
    let failed = read(&channel(&server, &options)).await.unwrap_err();
    assert!(
        failed.message.to_lowercase().contains("not valid for name"),
        "{failed:?}"
    );
}

/// Calls, each on a connection of its own, until told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    worker: tokio::task::JoinHandle<()>,
}

impl Load {
    fn start(server: &Server, options: RemoteOptions) -> Self {
        let (stop, done) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let address = format!("https://{}", server.address());
        let kept = Channel::remote(std::slice::from_ref(&address), &options);
        let kept = kept.unwrap().in_name_of("ingest");
        let (stopped, count) = (stop.clone(), done.clone());
        let worker = tokio::spawn(async move {
            while !stopped.load(Ordering::SeqCst) {
                let fresh = Channel::remote(std::slice::from_ref(&address), &options);
                let fresh = fresh.unwrap().in_name_of("ingest");
                for channel in [&kept, &fresh] {
                    for path in [READ, READ] {
                        call(channel, path, Duration::from_secs(20)).await.unwrap();
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                }
            }
        });
        Self { stop, done, worker }
    }

    async fn go_on(&self) {
        let now = self.done.load(Ordering::SeqCst);
        until("the load goes on", async || {
            self.worker.is_finished() || self.done.load(Ordering::SeqCst) > now + 40
        })
        .await;
    }

    async fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.worker.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_and_authorities_change_under_load_without_a_failed_call() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let (journal_files, ingest_files) = (Files::new("journal", &old), Files::new("ingest", &old));
    let (journal_tls, ingest_tls) = (journal_files.tls(), ingest_files.tls());
    let (server, _) = journal(journal_tls.clone()).await;
    let load = Load::start(&server, secure(ingest_tls.clone(), "journal"));
    load.go_on().await;

    // A new leaf of the same authority.
    let end = journal_tls.not_after();
    journal_files.issue("journal", &old, 7_200);
    ingest_files.issue("ingest", &old, 7_200);
    until("the leaves are taken", async || {
        journal_tls.not_after() > end && ingest_tls.not_after() > end
    })
    .await;
    load.go_on().await;

    // A new authority: first both are trusted, then leaves change, then the old one goes.
    for files in [&journal_files, &ingest_files] {
        files.trust(&[&old, &new]);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    load.go_on().await;
    let end = journal_tls.not_after();
    journal_files.issue("journal", &new, 10_800);
    load.go_on().await;
    ingest_files.issue("ingest", &new, 10_800);
    until("the leaves are taken", async || {
        journal_tls.not_after() > end && ingest_tls.not_after() > end
    })
    .await;
    load.go_on().await;
    for files in [&journal_files, &ingest_files] {
        files.trust(&[&new]);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    load.go_on().await;
    load.end().await;

    // The old authority is out now.
    let late = Files::new("ingest", &old);
    late.trust(&[&old, &new]);
    let failed = read(&channel(&server, &secure(late.tls(), "journal")))
        .await
        .unwrap_err();
    assert_eq!(failed.code, Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn half_written_files_are_not_taken() {
    let authority = Authority::new("mesh");
    let files = Files::new("journal", &authority);
    let tls = files.tls();
    let end = tls.not_after();
    let metrics = Metrics::new();
    let told = Tls::start_with(&files.options, Some(&metrics), Duration::from_millis(20)).unwrap();
    let gauge = || {
        metrics
            .text()
            .lines()
            .find(|line| line.starts_with("commonplace_tls_certificate_not_after_seconds "))
            .unwrap()
            .to_owned()
    };
    let before = gauge();
    let stranger = Authority::new("stranger");
    let (certificate, key) = authority.issue("journal", 7_200);
    let half = &certificate[..certificate.len() / 2];
    let (strange, strange_key) = stranger.issue("journal", 7_200);
    for (certificate, key) in [
        (half, None),
        ("", None),
        (certificate.as_str(), None),
        (strange.as_str(), Some(strange_key.as_str())),
    ] {
        put(&files.options.certificate, certificate);
        if let Some(key) = key {
            put(&files.options.key, key);
        }
        tokio::time::sleep(Duration::from_millis(150)).await;
        assert_eq!((tls.not_after(), told.not_after()), (end, end));
        assert_eq!(gauge(), before);
    }
    assert!(
        !metrics.text().contains("tls_reloads_refused_total 0"),
        "{}",
        metrics.text()
    );
    std::fs::remove_file(&files.options.key).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(tls.not_after(), end);
    put(&files.options.certificate, &certificate);
    put(&files.options.key, &key);
    until("the whole pair is taken", async || tls.not_after() > end).await;
    until("the gauge follows", async || gauge() != before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_be_used_are_named_with_the_next_step() {
    let authority = Authority::new("mesh");
    let files = Files::new("journal", &authority);
    let good = files.options.clone();
    let told = |options: &TlsOptions| Tls::start(options, None).unwrap_err().to_string();
    let other = Files::new("journal", &authority);
    let stranger = Files::new("journal", &Authority::new("stranger"));
    let expired = Files::ending("journal", &authority, -10);
    let nowhere = std::path::PathBuf::from("/nowhere/tls.crt");
    for (options, parts) in [
        (
            TlsOptions {
                key: Default::default(),
                ..good.clone()
            },
            ["`key` is not set", "com certs dev"],
        ),
        (
            TlsOptions {
                certificate: nowhere,
                ..good.clone()
            },
            ["/nowhere/tls.crt", "check that it exists"],
        ),
        (
            TlsOptions {
                certificate: good.key.clone(),
                ..good.clone()
            },
            ["holds no certificate", "tls.key"],
        ),
        (
            TlsOptions {
                key: good.certificate.clone(),
                ..good.clone()
            },
            ["holds no private key", "tls.crt"],
        ),
        (
            TlsOptions {
                key: other.options.key.clone(),
                ..good.clone()
            },
            ["it must belong to", "tls.crt"],
        ),
        (
            TlsOptions {
                authority: stranger.options.authority.clone(),
                ..good.clone()
            },
            ["signed by an authority", "ca.crt"],
        ),
        (
            TlsOptions {
                identity: "no role".into(),
                ..good.clone()
            },
            ["identity", "{role}"],
        ),
        (expired.options.clone(), ["expired", "valid now"]),
    ] {
        let text = told(&options);
        assert!(
            parts.iter().all(|part| text.contains(part)),
            "{text}\nshould say {parts:?}"
        );
    }
    let _ = WRITE;
}
