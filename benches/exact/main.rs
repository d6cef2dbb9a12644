//! The Rust side of `make bench`: draws data, measures the machine, and answers searches that `benches/run.py` asks for.

mod data;
mod peaks;
mod raw;
mod serve;

use std::error::Error;
use std::io::Write;
use std::path::Path;

const HELP: &str = "run by `make bench` (benches/run.py). Commands:
  draw FILE ROWS DIMENSION CLUSTERS SIGMA SEED STREAM    unit vectors, f32, little-endian
  peaks                                                  what the processor and the memory can do
  paths                                                  the paths of this processor, fastest first
  serve BANK DIMENSION K PATH memory|file                load a bank; then commands on standard input
  raw ROWS QUERIES DIMENSION K PATH                      any vectors by every metric, beside the slow twin";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut out = std::io::stdout();
    match words[..] {
        ["draw", file, rows, dimension, clusters, sigma, seed, stream] => {
            let shape = data::Shape {
                dimension: dimension.parse()?,
                clusters: clusters.parse()?,
                sigma: sigma.parse()?,
                seed: seed.parse()?,
                stream: stream.parse()?,
            };
            data::draw(Path::new(file), rows.parse()?, shape)?;
        }
        ["peaks"] => writeln!(out, "{}", peaks::measure())?,
        ["paths"] => {
            let names: Vec<&str> =
                outskirt_exact::Path::available().into_iter().map(outskirt_exact::Path::name).collect();
            writeln!(out, "{names:?}")?;
        }
        ["serve", bank, dimension, k, path, form @ ("memory" | "file")] => {
            serve::serve(Path::new(bank), dimension.parse()?, k.parse()?, path.parse()?, form == "file")?;
        }
        ["raw", rows, queries, dimension, k, path] => {
            let (rows, queries) = (Path::new(rows), Path::new(queries));
            raw::measure(rows, queries, dimension.parse()?, k.parse()?, path.parse()?)?;
        }
        _ => writeln!(out, "{HELP}")?,
    }
    Ok(())
}
