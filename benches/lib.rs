//! What the benches share. The benchmarks themselves are the `[[bench]]` targets; see `README.md` beside this file.

pub mod rounds;
