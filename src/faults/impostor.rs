//! Somebody between nginx and gunicorn who spoils answers, so that any application can
//! be made slow or wrong without its help. Takes the place of gunicorn's sockets, lets
//! health checks through untouched, and gives the sockets back when it goes.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context as _;

/// What gunicorn's own socket is called while an impostor has its name.
const ASIDE: &str = "sock.aside";
/// Longest head of a request that is looked at.
const HEAD: usize = 64 << 10;
/// How long a side may be silent.
const SILENCE: Duration = Duration::from_secs(15);

/// What is done to requests that are no health checks.
#[derive(Clone, Copy, Debug)]
pub enum Mischief {
    /// They are answered 500, and the application does not see them.
    Fail,
    /// They reach the application later.
    Dawdle(Duration),
}

/// An impostor at work; the sockets are given back when it is dropped.
#[derive(Debug)]
pub struct Impostor {
    directory: PathBuf,
    stop: Arc<AtomicBool>,
    listeners: Vec<JoinHandle<()>>,
}

impl Impostor {
    /// Takes the place of every gunicorn socket in `directory`.
    ///
    /// # Errors
    /// If there is none, or one can't be replaced; then all are as before.
    pub fn start(directory: &Path, health_path: &str, mischief: Mischief) -> anyhow::Result<Self> {
        let mut impostor = Self {
            directory: directory.to_path_buf(),
            stop: Arc::new(AtomicBool::new(false)),
            listeners: Vec::new(),
        };
        let sockets = with_extension(directory, "sock");
        anyhow::ensure!(
            !sockets.is_empty(),
            "there is no gunicorn socket in {}",
            directory.display()
        );
        for socket in sockets {
            let aside = socket.with_extension(ASIDE);
            fs::rename(&socket, &aside)
                .with_context(|| format!("putting {} aside", socket.display()))?;
            let listener = UnixListener::bind(&socket)
                .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
                .with_context(|| format!("listening on {}", socket.display()))?;
            let (stop, health) = (Arc::clone(&impostor.stop), health_path.to_owned());
            impostor.listeners.push(thread::spawn(move || {
                serve(&listener, &aside, &health, mischief, &stop);
            }));
        }
        Ok(impostor)
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        // First the names, so that no request finds nobody.
        let _ = give_back(&self.directory);
        self.stop.store(true, Ordering::SeqCst);
        for listener in self.listeners.drain(..) {
            let _ = listener.join();
        }
    }
}

/// Gives gunicorn its sockets back, after an impostor that could not do so itself, too.
///
/// # Errors
/// If one can't be renamed.
pub fn give_back(directory: &Path) -> anyhow::Result<()> {
    for aside in with_extension(directory, "aside") {
        // gunicorn-0.sock.aside → gunicorn-0.sock
        fs::rename(&aside, aside.with_extension(""))
            .with_context(|| format!("putting {} back", aside.display()))?;
    }
    Ok(())
}

fn with_extension(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let is_socket = |path: &PathBuf| {
        path.extension().is_some_and(|e| e == extension)
            && path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("gunicorn-"))
    };
    let mut found: Vec<PathBuf> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(is_socket)
        .collect();
    found.sort();
    found
}

fn serve(
    listener: &UnixListener,
    aside: &Path,
    health: &str,
    mischief: Mischief,
    stop: &AtomicBool,
) {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                let (aside, health) = (aside.to_path_buf(), health.to_owned());
                // A connection that breaks is what visitors of a broken app see.
                thread::spawn(move || handle(stream, &aside, &health, mischief));
            }
            // Whoever has connected is served, even at the end.
            Err(_) if stop.load(Ordering::SeqCst) => break,
            Err(_) => thread::sleep(Duration::from_millis(1)),
        }
    }
}

fn handle(
    mut client: UnixStream,
    aside: &Path,
    health: &str,
    mischief: Mischief,
) -> std::io::Result<()> {
    client.set_nonblocking(false)?;
    client.set_read_timeout(Some(SILENCE))?;
    let mut request = Vec::new();
    while !is_complete(&request) && request.len() < HEAD {
        let mut piece = [0; 4096];
        let read = client.read(&mut piece)?;
        if read == 0 {
            break;
        }
        request.extend_from_slice(&piece[..read]);
    }
    if !asks_for(&request, health) {
        match mischief {
            Mischief::Fail => {
                return client.write_all(
                    b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                );
            }
            Mischief::Dawdle(time) => thread::sleep(time),
        }
    }
    // The socket has its own name again when the impostor has gone in the meantime.
    let app =
        UnixStream::connect(aside).or_else(|_| UnixStream::connect(aside.with_extension("")))?;
    relay(client, app, &request)
}

/// Whether the head of a request is there, and as much of a body as it announces.
fn is_complete(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, _)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    });
    request.len() >= head.len() + 4 + length.unwrap_or(0)
}

fn asks_for(request: &[u8], path: &str) -> bool {
    let first = request
        .split(|byte| *byte == b'\r')
        .next()
        .unwrap_or_default();
    let line = String::from_utf8_lossy(first);
    line.split(' ').nth(1) == Some(path)
}

fn relay(client: UnixStream, mut app: UnixStream, request: &[u8]) -> std::io::Result<()> {
    app.set_read_timeout(Some(SILENCE))?;
    app.write_all(request)?;
    let (mut from_client, mut to_app) = (client.try_clone()?, app.try_clone()?);
    thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_app);
        to_app.shutdown(Shutdown::Write)
    });
    let (mut from_app, mut to_client) = (app, client);
    let copied = std::io::copy(&mut from_app, &mut to_client);
    to_client.shutdown(Shutdown::Both)?;
    copied.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_complete_with_its_body() {
        assert!(!is_complete(b"GET / HTTP/1.1\r\nHost: a\r\n"));
        assert!(is_complete(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(!is_complete(
            b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nabc"
        ));
        assert!(is_complete(
            b"POST / HTTP/1.1\r\ncontent-length: 4\r\n\r\nabcd"
        ));
    }

    #[test]
    fn health_checks_are_told_apart() {
        assert!(asks_for(b"GET /readyz HTTP/1.1\r\n\r\n", "/readyz"));
        assert!(!asks_for(b"GET /readyzz HTTP/1.1\r\n\r\n", "/readyz"));
        assert!(!asks_for(b"", "/readyz"));
    }

    /// An app that says `yes` to everybody, behind an impostor.
    #[test]
    fn answers_are_spoiled_and_the_socket_is_given_back() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let socket = directory.path().join("gunicorn-0.sock");
        let app = UnixListener::bind(&socket)?;
        thread::spawn(move || {
            for stream in app.incoming().flatten() {
                let mut stream = stream;
                let mut piece = [0; 1024];
                let _ = stream.read(&mut piece);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes");
            }
        });
        let ask = |path: &str| -> std::io::Result<String> {
            let mut stream = UnixStream::connect(&socket)?;
            stream.write_all(format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes())?;
            stream.shutdown(Shutdown::Write)?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        let impostor = Impostor::start(directory.path(), "/readyz", Mischief::Fail)?;
        assert!(ask("/")?.starts_with("HTTP/1.1 500 "));
        assert!(ask("/readyz")?.ends_with("yes"));
        drop(impostor);
        assert!(ask("/")?.ends_with("yes"));
        assert_eq!(
            with_extension(directory.path(), "aside"),
            Vec::<PathBuf>::new()
        );
        Ok(())
    }
}
