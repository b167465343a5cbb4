//! Verifies objects and prints what was found.
use std::time::Instant;
fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let verbose = args.iter().any(|a| a == "-v");
    let (mut ok, mut n, mut all, mut shown, mut fu, mut ft, mut code, mut time) =
        (0, 0, 0, 0, 0, 0, 0u64, 0.0);
    let mut total = awsm_verify::Counts::new();
    let threads = std::num::NonZeroUsize::new(1).unwrap();
    for file in args.iter().filter(|a| a.ends_with(".so")) {
        n += 1;
        let bytes = std::fs::read(file).unwrap();
        let t = Instant::now();
        let r = awsm_verify::verify_each(&bytes, awsm_verify::Options { threads });
        let dt = t.elapsed().as_secs_f64();
        match r {
            Ok(r) => {
                ok += 1;
                let (a, s) = r.memory_accesses();
                all += a;
                shown += s;
                code += r.code_bytes;
                time += dt;
                ft += r.functions.len();
                fu += r.unshown().count();
                for (k, v) in r.counts() {
                    *total.entry(k).or_default() += v;
                }
                println!(
                    "{file}: ok {} functions, memory {s}/{a}, {:.3} s, {:.2} s/MB",
                    r.functions.len(),
                    dt,
                    dt / r.code_bytes as f64 * 1e6
                );
                if verbose {
                    for f in r.unshown() {
                        for u in &f.unshown {
                            println!("    {}+{:#x} {}", f.name, u.offset, u.what);
                        }
                    }
                }
            }
            Err(e) => {
                println!("{file}: REFUSED {} {:.2} s", e.len(), dt);
                for e in e {
                    println!("   !! {e}");
                }
            }
        }
    }
    println!(
        "{ok}/{n} ok; memory {shown}/{all} = {:.5}; functions with unshown {fu}/{ft}; {:.2} s/MB",
        shown as f64 / all as f64,
        time / code as f64 * 1e6
    );
    for (k, v) in total {
        println!("  {:9} {}", v, k.name());
    }
}
