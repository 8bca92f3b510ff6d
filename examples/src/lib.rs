//! The programs are the `[[example]]` targets; see `README.md` beside this package.
