use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use sea_orm::sqlx::postgres::{PgConnectOptions, PgConnection};
use sea_orm::sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};

use crate::find;

/// Whom the server runs as when the tests run as root, which it refuses to.
const NOBODY: u32 = 65_534;
const START: Duration = Duration::from_secs(60);
/// The role that services' statements run as ([`Server::ROLE`]).
const MAKE_ROLE: &str = "CREATE ROLE service NOLOGIN\n";

/// Starts and stops the server by orders on its input, one a line, and answers each. It outlives the tests'
/// process by the moment it takes to end the server and remove its folder: its input ends with them.
const GUARD: &str = r#"
pid=
while read -r order; do
    case $order in
        start) "$1/postgres" -D "$2/data" >>"$2/log" 2>&1 </dev/null & pid=$! ;;
        stop) kill -INT "$pid"; wait "$pid" ;;
        crash) kill -QUIT "$pid"; wait "$pid" ;;
        pause) kill -STOP "$pid" ;;
        go) kill -CONT "$pid" ;;
    esac
    echo done
done
[ -n "$pid" ] && kill -QUIT "$pid" 2>/dev/null && wait "$pid"
rm -rf "$2"
"#;

/// A PostgreSQL server of this process, with an empty data folder of its own, on a free port.
pub struct Server {
    port: u16,
    folder: PathBuf,
    orders: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    guard: Mutex<Option<Child>>,
    /// Numbers what tests ask for, so that they never meet.
    next: AtomicU32,
}

impl Server {
    /// A role that owns nothing and passes no policy by, unlike the login of [`Server::url`], which is a superuser.
    pub const ROLE: &str = "service";

    /// The one server of this process, for tests that leave it alone.
    pub fn shared() -> &'static Server {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(|| Server::start(&[]))
    }

    /// A server of one's own, to be stopped and started. `settings`: lines of its configuration.
    pub fn start(settings: &[&str]) -> Self {
        let user = user();
        let programs = find::programs(user.is_some());
        let folder = tempfile::Builder::new()
            .prefix("commonplace-postgres-")
            .tempdir()
            .expect("a temporary folder can be made")
            .keep();
        if let Some(user) = user {
            chown(&folder, Some(user), Some(user)).expect("root may give a folder away");
        }
        let as_user = |program: &Path| {
            let mut command = Command::new(program);
            command.current_dir(&folder);
            if let Some(user) = user {
                command.uid(user).gid(user);
            }
            command
        };
        let made = as_user(&programs.join("initdb"))
            .args(["--username=commonplace", "--auth=trust", "--encoding=UTF8"])
            .args(["--locale=C", "--no-sync", "--no-instructions", "-D"])
            .arg(folder.join("data"))
            .output()
            .expect("initdb can be run");
        assert!(
            made.status.success(),
            "initdb failed: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        let port = free_port();
        let mut lines = vec![
            "listen_addresses = '127.0.0.1'".to_owned(),
            format!("port = {port}"),
            "unix_socket_directories = ''".into(),
            "max_connections = 200".into(),
            "max_wal_size = '1GB'".into(),
        ];
        lines.extend(settings.iter().map(|line| line.to_string()));
        let file = folder.join("data/postgresql.conf");
        let mut all = std::fs::read_to_string(&file).expect("initdb wrote it");
        all.push_str(&lines.join("\n"));
        all.push('\n');
        std::fs::write(&file, all).expect("it can be written");
        let mut single = as_user(&programs.join("postgres"))
            .arg("--single")
            .arg("-D")
            .arg(folder.join("data"))
            .arg("postgres")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("postgres can be run");
        let mut orders = single.stdin.take().expect("it was asked for");
        orders
            .write_all(MAKE_ROLE.as_bytes())
            .expect("it reads its orders");
        drop(orders);
        assert!(
            single.wait().expect("it ends").success(),
            "no role was made"
        );
        let mut guard = as_user(Path::new("sh"))
            .args(["-c", GUARD, "guard"])
            .arg(&programs)
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh can be run");
        let orders = guard.stdin.take().expect("it was asked for");
        let answers = BufReader::new(guard.stdout.take().expect("it was asked for"));
        let server = Self {
            port,
            folder,
            orders: Mutex::new((orders, answers)),
            guard: Mutex::new(Some(guard)),
            next: AtomicU32::new(0),
        };
        server.start_again();
        server
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of a database.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://commonplace@127.0.0.1:{}/{database}", self.port)
    }

    /// A number that nothing else of this server has.
    pub fn number(&self) -> u32 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Makes an empty database, or a copy of another that nobody uses, and gives its name.
    pub async fn database(&self, copy_of: Option<&str>) -> String {
        let name = format!("d{}", self.number());
        let template = copy_of.unwrap_or("template0");
        self.run(
            "postgres",
            &format!("CREATE DATABASE {name} TEMPLATE {template}"),
        )
        .await;
        name
    }

    /// Runs statements in a database; gives how many rows the last one changed or found.
    pub async fn run(&self, database: &str, sql: &str) -> u64 {
        let mut connection = self.connect(database).await;
        let done = connection.execute(AssertSqlSafe(sql.to_owned())).await;
        let changed = done.unwrap_or_else(|error| panic!("{sql}: {error}"));
        connection.close().await.ok();
        changed.rows_affected()
    }

    /// A connection of one's own.
    pub async fn connect(&self, database: &str) -> PgConnection {
        let options: PgConnectOptions = self.url(database).parse().expect("it is a URL");
        options.connect().await.expect("the server answers")
    }

    /// Stops it; what is under way is broken off, clients are told.
    pub fn stop(&self) {
        self.order("stop");
    }

    /// Ends it as a crash does: nobody is told, nothing is written out.
    pub fn crash(&self) {
        self.order("crash");
    }

    /// Starts it after it was stopped, and waits until it answers.
    pub fn start_again(&self) {
        self.order("start");
        let began = Instant::now();
        while !self.answers() {
            assert!(
                began.elapsed() < START,
                "the server did not start: {}",
                std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Halts its main process, so that it takes no new connections, until [`Server::go`].
    pub fn pause(&self) {
        self.order("pause");
    }

    /// Ends a pause.
    pub fn go(&self) {
        self.order("go");
    }

    /// Its own word on whether it takes connections: the eighth line of the file that holds its process id.
    fn answers(&self) -> bool {
        let file = self.folder.join("data/postmaster.pid");
        std::fs::read_to_string(file).is_ok_and(|text| {
            text.lines()
                .nth(7)
                .is_some_and(|line| line.trim() == "ready")
        })
    }

    fn order(&self, order: &str) {
        let mut orders = self.orders.lock().unwrap();
        writeln!(orders.0, "{order}").expect("the guard runs");
        let mut answer = String::new();
        orders.1.read_line(&mut answer).expect("the guard answers");
        assert_eq!(answer, "done\n", "the guard of the server ended");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let guard = self.guard.lock().unwrap().take();
        if let Some(mut guard) = guard {
            self.order("go");
            self.order("stop");
            guard.kill().ok();
            guard.wait().ok();
            std::fs::remove_dir_all(&self.folder).ok();
        }
    }
}

/// Whom to run as instead of root.
fn user() -> Option<u32> {
    let own = std::fs::metadata("/proc/self").map(|process| process.uid());
    matches!(own, Ok(0)).then_some(NOBODY)
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    listener.local_addr().expect("it is bound").port()
}
