//! What runs in the contract suite's containers: standard library only, linked statically, the only file
//! of its image. Its arguments say what it does.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        // Answers every request on every connection with this status.
        ["serve", status] => serve(status),
        // Ends with this exit code after so many milliseconds, having printed these lines.
        ["die", millis, code, ref lines @ ..] => {
            lines.iter().for_each(|line| println!("{}", line.replace("ESC", "\u{1b}")));
            std::thread::sleep(Duration::from_millis(millis.parse().unwrap()));
            std::process::exit(code.parse().unwrap());
        }
        // Prints a variable.
        ["say", name] => eprintln!("{name} is {:?}", std::env::var(name)),
        _ => std::process::exit(99),
    }
}

fn serve(status: &str) {
    let listener = TcpListener::bind("0.0.0.0:8080").unwrap();
    println!("serving {status}");
    let answer = format!("HTTP/1.1 {status} Said\r\ncontent-length: 0\r\n\r\n");
    for mut stream in listener.incoming().flatten() {
        let answer = answer.clone();
        std::thread::spawn(move || {
            let mut request = [0; 4096];
            while stream.read(&mut request).is_ok_and(|length| length > 0) {
                if stream.write_all(answer.as_bytes()).is_err() {
                    break;
                }
            }
        });
    }
}
