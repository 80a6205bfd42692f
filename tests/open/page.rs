//! A web server of few words: pages by target, and a memory of what was asked for.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

pub struct Site {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Site {
    /// Serves what `page` makes of a target, until the test's process ends.
    pub fn start(page: impl Fn(&str) -> String + Send + Sync + 'static) -> Site {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let site = Site { address: listener.local_addr().unwrap(), asked: Arc::default() };
        let (asked, page) = (site.asked.clone(), Arc::new(page));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (asked, page) = (asked.clone(), page.clone());
                std::thread::spawn(move || serve(stream, &asked, &*page));
            }
        });
        site
    }

    pub fn asked(&self, start: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|target| target.starts_with(start)).count()
    }
}

/// One request of a connection.
fn serve(stream: TcpStream, asked: &Mutex<Vec<String>>, page: &dyn Fn(&str) -> String) {
    let mut from = BufReader::new(stream);
    let mut line = String::new();
    // A browser connects ahead of need and may say nothing.
    let Ok(1..) = from.read_line(&mut line) else { return };
    let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
    while line.trim_end() != "" {
        line.clear();
        if !matches!(from.read_line(&mut line), Ok(1..)) {
            return;
        }
    }
    let body = page(&target);
    asked.lock().unwrap().push(target);
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _ = from.get_mut().write_all(format!("{head}{body}").as_bytes());
}
