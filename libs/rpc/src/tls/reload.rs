//! Keeps what was last read well from the files, and reads them again when they change.

use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::{Duration, SystemTime};

use commonplace_telemetry::Metrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::load::{Files, Loaded};
use super::{PeerIdentity, TlsError, TlsOptions};

/// How often the files are looked at.
const PERIOD: Duration = Duration::from_secs(1);

/// Our certificate and whom we trust, as the files say now. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct Tls {
    inner: Arc<Inner>,
}

struct Inner {
    options: TlsOptions,
    current: RwLock<Arc<Loaded>>,
    not_after: Gauge,
    refused: Counter,
}

impl Tls {
    /// Reads the files, and from then on looks every second whether they changed. Must be called within a
    /// tokio runtime. Error: a file that cannot be used, by name, with what to do.
    pub fn start(options: &TlsOptions, metrics: Option<&Metrics>) -> Result<Self, TlsError> {
        Self::start_with(options, metrics, PERIOD)
    }

    /// The same with another period.
    pub fn start_with(
        options: &TlsOptions,
        metrics: Option<&Metrics>,
        period: Duration,
    ) -> Result<Self, TlsError> {
        let files = Files::read(options)?;
        let loaded = Arc::new(Loaded::new(&files, options)?);
        let inner = Arc::new(Inner {
            options: options.clone(),
            current: RwLock::new(loaded),
            not_after: Gauge::default(),
            refused: Counter::default(),
        });
        inner.tell();
        if let Some(metrics) = metrics {
            inner.register(metrics);
        }
        tokio::spawn(follow(Arc::downgrade(&inner), files, period));
        Ok(Self { inner })
    }

    /// When the certificate in use ends.
    pub fn not_after(&self) -> SystemTime {
        self.current().not_after
    }

    /// Who we are, by the certificate in use.
    pub fn identity(&self) -> PeerIdentity {
        self.current().own.clone()
    }

    /// Whether callers must show a certificate.
    pub fn is_mutual(&self) -> bool {
        self.current().is_mutual()
    }

    pub(crate) fn current(&self) -> Arc<Loaded> {
        self.inner.current()
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "Tls({})",
            self.inner.options.certificate.display()
        )
    }
}

impl Inner {
    fn current(&self) -> Arc<Loaded> {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn register(&self, metrics: &Metrics) {
        metrics.register(|registry| {
            registry.register(
                "tls_certificate_not_after_seconds",
                "When the certificate in use ends, in seconds since 1970",
                self.not_after.clone(),
            );
            registry.register(
                "tls_reloads_refused",
                "Changed certificate files that were not taken",
                self.refused.clone(),
            );
        });
    }

    fn tell(&self) {
        let end = self
            .current()
            .not_after
            .duration_since(SystemTime::UNIX_EPOCH);
        let seconds = end.map_or(0, |span| span.as_secs());
        self.not_after
            .set(i64::try_from(seconds).unwrap_or(i64::MAX));
    }

    /// Takes changed files if they are good; `seen` is what was looked at last, taken or not.
    fn look(&self, seen: &mut Option<Files>) {
        let certificate = self.options.certificate.display();
        let taken = match Files::read(&self.options) {
            Ok(files) if seen.as_ref() == Some(&files) => return,
            Ok(files) => {
                let loaded = Loaded::new(&files, &self.options);
                *seen = Some(files);
                loaded
            }
            // Told once: until the files can be read again there is nothing new to say.
            Err(_) if seen.is_none() => return,
            Err(error) => {
                *seen = None;
                Err(error)
            }
        };
        match taken {
            Ok(loaded) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
                self.tell();
                tracing::info!(%certificate, "certificates reloaded");
            }
            Err(error) => {
                self.refused.inc();
                tracing::warn!(%certificate, %error, "changed certificate files not taken; the old ones stay");
            }
        }
    }
}

/// Ends when nobody uses the certificates any more.
async fn follow(inner: Weak<Inner>, files: Files, period: Duration) {
    let mut seen = Some(files);
    loop {
        tokio::time::sleep(period).await;
        let Some(inner) = inner.upgrade() else { return };
        let looked = tokio::task::spawn_blocking(move || {
            inner.look(&mut seen);
            seen
        });
        match looked.await {
            Ok(next) => seen = next,
            Err(_) => return,
        }
    }
}
