//! Greets whoever the body names.

use std::io::Read;

fn main() -> std::io::Result<()> {
    let mut body = String::new();
    std::io::stdin().read_to_string(&mut body)?;
    let name = body.lines().next().filter(|line| !line.is_empty()).unwrap_or("world");
    println!("Hello, {name}, from Rust!");
    Ok(())
}
