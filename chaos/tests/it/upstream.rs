//! An HTTP server that remembers what it was asked, and a client that knows no retries.

use actix_web::web::Bytes;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Longest wait of a client that is to get an answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// A client that is to get none waits so long.
pub(crate) const IMPATIENCE: Duration = Duration::from_millis(300);

/// A server that runs until the process ends.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

/// What a client got.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Got {
    /// A whole answer: status and body.
    Answer(u16, String),
    /// Its connection broke, before or within an answer.
    Broken,
    /// Nothing in time.
    Nothing,
}

impl Upstream {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let data = web::Data::from(seen.clone());
        std::thread::spawn(move || {
            let limit = web::PayloadConfig::new(8 << 20);
            let app = move || {
                App::new().app_data(data.clone()).app_data(limit.clone()).default_service(web::to(answer))
            };
            let server =
                HttpServer::new(app).workers(1).disable_signals().listen(listener).expect("a server");
            actix_web::rt::System::new().block_on(server.run())
        });
        Upstream { address, seen }
    }

    /// Path and body of every request, in the order of their coming.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("a list").clone()
    }
}

/// Numbers its answers.
async fn answer(request: HttpRequest, body: Bytes, seen: web::Data<Mutex<Vec<String>>>) -> HttpResponse {
    let mut seen = seen.lock().expect("a list");
    seen.push(format!("{} {}", request.path(), String::from_utf8_lossy(&body)).trim_end().to_owned());
    let text = format!("answer {}", seen.len());
    if request.path() == "/chunked" {
        let pieces =
            text.into_bytes().into_iter().map(|byte| Ok::<_, actix_web::Error>(Bytes::from(vec![byte])));
        return HttpResponse::Ok().streaming(futures_util::stream::iter(pieces));
    }
    HttpResponse::Ok().insert_header(("x-from", "upstream")).body(text)
}

/// A client with a connection pool of its own.
pub(crate) fn client() -> reqwest::Client {
    // Fails where another test of this process was first, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let none = reqwest::redirect::Policy::none();
    reqwest::Client::builder().no_proxy().redirect(none).build().expect("a client")
}

/// What comes of a request in 20 s.
pub(crate) async fn got(request: reqwest::RequestBuilder) -> Got {
    got_within(PATIENCE, request).await
}

/// What comes of a request.
pub(crate) async fn got_within(limit: Duration, request: reqwest::RequestBuilder) -> Got {
    let asked = async {
        let response = request.send().await?;
        Ok((response.status().as_u16(), response.text().await?))
    };
    let asked: Result<Result<_, reqwest::Error>, _> = tokio::time::timeout(limit, asked).await;
    match asked {
        Ok(Ok((status, text))) => Got::Answer(status, text),
        Ok(Err(_)) => Got::Broken,
        Err(_) => Got::Nothing,
    }
}

/// The n-th answer of an upstream.
pub(crate) fn answered(n: usize) -> Got {
    Got::Answer(200, format!("answer {n}"))
}
