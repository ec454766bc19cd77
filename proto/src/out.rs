//! What a program prints for whoever typed its name.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

/// Prints a line on standard output. A reader that has seen enough (`| head`) is no failure.
///
/// # Errors
/// What the other end says otherwise: a full disk, a closed file.
pub fn line(text: impl Display) -> io::Result<()> {
    line_to(io::stdout().lock(), text)
}

fn line_to(mut out: impl Write, text: impl Display) -> io::Result<()> {
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(io::Error::new(error.kind(), format!("cannot write to standard output: {error}"))),
        Ok(()) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Ends(ErrorKind);

    impl Write for Ends {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_went_away_is_fine_and_a_full_disk_is_said() {
        assert!(line_to(Ends(ErrorKind::BrokenPipe), "x").is_ok());
        let error = line_to(Ends(ErrorKind::StorageFull), "x").unwrap_err();
        assert!(error.to_string().contains("standard output"), "{error}");
        let mut out = Vec::new();
        line_to(&mut out, "x").expect("room");
        assert_eq!(out, b"x\n");
    }
}
