use std::sync::Mutex;

use super::*;

/// Sends back whatever it gets, and remembers it.
struct Echo {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Echo {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let all = heard.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let all = all.clone();
                tokio::spawn(async move {
                    let mut buffer = [0; 4_096];
                    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                        all.lock().unwrap().extend_from_slice(&buffer[..count]);
                        if stream.write_all(&buffer[..count]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, heard }
    }

    fn heard(&self) -> Vec<u8> {
        self.heard.lock().unwrap().clone()
    }
}

async fn pair() -> (Echo, Proxy) {
    let echo = Echo::start().await;
    let proxy = Proxy::start(echo.address).await.unwrap();
    (echo, proxy)
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.unwrap()
}

/// Sends a text and reads as much back.
async fn exchange(stream: &mut TcpStream, text: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(text).await?;
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn bytes_and_their_end_pass() {
    let (_echo, proxy) = pair().await;
    let mut stream = connect(&proxy).await;
    let large = vec![7; 1 << 20];
    let (mut reads, mut writes) = stream.split();
    let mut answer = Vec::new();
    let send = async {
        writes.write_all(&large).await.unwrap();
        writes.shutdown().await.unwrap();
    };
    let (_, count) = tokio::join!(send, reads.read_to_end(&mut answer));
    assert_eq!(count.unwrap(), large.len());
    assert!(answer == large);
    assert_eq!(proxy.accepted(), 1);
}

#[tokio::test]
async fn a_delay_counts_each_way_and_for_open_connections() {
    let (_echo, proxy) = pair().await;
    let mut stream = connect(&proxy).await;
    exchange(&mut stream, b"before").await.unwrap();
    proxy.set(Rule::Delay(Duration::from_millis(60)));
    let started = Instant::now();
    assert_eq!(exchange(&mut stream, b"after").await.unwrap(), b"after");
    assert!(started.elapsed() >= Duration::from_millis(120));
}

#[tokio::test]
async fn a_black_hole_takes_connections_and_keeps_what_it_got() {
    let (echo, proxy) = pair().await;
    let mut open = connect(&proxy).await;
    exchange(&mut open, b"1").await.unwrap();
    proxy.set(Rule::BlackHole);
    let mut new = connect(&proxy).await;
    let answers = async {
        open.write_all(b"2").await.unwrap();
        new.write_all(b"3").await.unwrap();
        tokio::select! {
            _ = open.read_u8() => {}
            _ = new.read_u8() => {}
        }
    };
    let silence = tokio::time::timeout(Duration::from_millis(150), answers).await;
    assert!(silence.is_err());
    assert_eq!(echo.heard(), b"1");
    proxy.set(Rule::Pass);
    assert_eq!(open.read_u8().await.unwrap(), b'2');
    assert_eq!(new.read_u8().await.unwrap(), b'3');
}

#[tokio::test]
async fn refusal_resets_what_is_open_and_ends() {
    let (_echo, proxy) = pair().await;
    let mut open = connect(&proxy).await;
    exchange(&mut open, b"1").await.unwrap();
    proxy.set(Rule::Refuse);
    let error = open.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let refused = async {
        loop {
            match TcpStream::connect(proxy.address()).await {
                Err(error) => break error.kind(),
                Ok(_) => tokio::task::yield_now().await,
            }
        }
    };
    assert_eq!(refused.await, io::ErrorKind::ConnectionRefused);
    proxy.set(Rule::Pass);
    loop {
        if let Ok(mut stream) = TcpStream::connect(proxy.address()).await {
            assert_eq!(exchange(&mut stream, b"2").await.unwrap(), b"2");
            break;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn resets_come_after_as_many_bytes_as_said() {
    for direction in [Direction::ToServer, Direction::ToClient] {
        let (echo, proxy) = pair().await;
        let mut stream = connect(&proxy).await;
        exchange(&mut stream, b"whole").await.unwrap();
        proxy.set(Rule::ResetAfter(direction, 3));
        stream.write_all(b"abcdef").await.unwrap();
        let mut answer = Vec::new();
        let error = stream.read_to_end(&mut answer).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert!(answer.len() <= 3, "{direction:?}");
        let heard: &[u8] = match direction {
            Direction::ToServer => b"wholeabc",
            Direction::ToClient => b"wholeabcdef",
        };
        assert_eq!(echo.heard(), heard);
    }
}

#[tokio::test]
async fn answers_are_dropped_after_the_request_got_through() {
    let (echo, proxy) = pair().await;
    let mut stream = connect(&proxy).await;
    exchange(&mut stream, b"1").await.unwrap();
    proxy.set(Rule::DropAnswers(Duration::from_millis(50)));
    stream.write_all(b"commit").await.unwrap();
    let error = stream.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(echo.heard(), b"1commit");
}

#[tokio::test]
async fn bandwidth_is_limited() {
    let (_echo, proxy) = pair().await;
    proxy.set(Rule::Bandwidth(100_000));
    let mut stream = connect(&proxy).await;
    let started = Instant::now();
    exchange(&mut stream, &[1; 50_000]).await.unwrap();
    // Half a second at that rate; a first buffer may go at once.
    assert!(started.elapsed() >= Duration::from_millis(400));
}
