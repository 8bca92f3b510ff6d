use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

use super::IsolationForestError;
use super::params::{IsolationForestParams, IsolationForestValidParams};
use super::random::Random;
use super::rows::Rows;
use super::scale::Scale;
use super::tree::{Ground, Tree, average_path};

/// A fitted isolation forest.
///
/// It can be stored with serde in any exact format; reading it back checks that it is whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub struct IsolationForest {
    pub(super) scale: Scale,
    pub(super) trees: Vec<Tree>,
    /// The average length of a path in a tree on so many rows: what scores are measured by.
    pub(super) usual_path: f64,
}

#[derive(Serialize, Deserialize)]
struct Parts {
    scale: Scale,
    trees: Vec<Tree>,
    usual_path: f64,
}

impl IsolationForest {
    /// Parameters to fit one with.
    #[must_use]
    pub const fn params() -> IsolationForestParams {
        IsolationForestParams::new()
    }

    /// Number of columns of the training data.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.scale.columns()
    }

    /// Number of trees.
    #[must_use]
    pub const fn trees(&self) -> usize {
        self.trees.len()
    }

    pub(super) fn check_columns(&self, found: usize) -> Result<(), IsolationForestError> {
        let expected = self.columns();
        if found == expected {
            Ok(())
        } else {
            Err(IsolationForestError::Columns { expected, found })
        }
    }
}

impl IsolationForestValidParams {
    /// Fits a forest on rows, without labels.
    ///
    /// # Errors
    ///
    /// [`IsolationForestError::Empty`] if there are fewer than two rows.
    pub fn fit_rows(&self, rows: Rows<'_>) -> Result<IsolationForest, IsolationForestError> {
        if rows.len() < 2 {
            return Err(IsolationForestError::Empty { rows: rows.len() });
        }
        let scale = Scale::fit(rows);
        let size = self.max_samples().min(rows.len());
        let ground = Ground::new(rows, &scale, self.trees(), size);
        let grow = |numbers: std::ops::Range<usize>| -> Vec<Tree> {
            // Each tree draws its own numbers, so that it does not matter which thread grows it.
            numbers
                .map(|number| ground.grow(&mut Random::new(self.seed(), number as u64)))
                .collect()
        };
        let trees = in_parts(self.trees(), self.threads(), &grow);
        Ok(IsolationForest {
            scale,
            trees,
            usual_path: average_path(size),
        })
    }
}

/// Makes so many things in order, on several threads.
fn in_parts<T: Send>(
    count: usize,
    threads: NonZeroUsize,
    make: &(impl Fn(std::ops::Range<usize>) -> Vec<T> + Sync),
) -> Vec<T> {
    if threads.get() == 1 {
        return make(0..count);
    }
    let share = count.div_ceil(threads.get()).max(1);
    std::thread::scope(|scope| {
        let starts = (0..count).step_by(share);
        let parts: Vec<_> = starts
            .map(|start| scope.spawn(move || make(start..(start + share).min(count))))
            .collect();
        let join = |part: std::thread::ScopedJoinHandle<'_, Vec<T>>| match part.join() {
            Ok(made) => made,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        parts.into_iter().flat_map(join).collect()
    })
}

impl TryFrom<Parts> for IsolationForest {
    type Error = &'static str;

    fn try_from(parts: Parts) -> Result<Self, Self::Error> {
        let Parts {
            scale,
            trees,
            usual_path,
        } = parts;
        let columns = scale.columns();
        let sound = scale.is_sound() && !trees.is_empty() && trees.iter().all(|tree| tree.is_sound(columns));
        if sound && usual_path >= 0.0 {
            Ok(Self {
                scale,
                trees,
                usual_path,
            })
        } else {
            Err("not a whole isolation forest")
        }
    }
}

impl From<IsolationForest> for Parts {
    fn from(
        IsolationForest {
            scale,
            trees,
            usual_path,
        }: IsolationForest,
    ) -> Self {
        Self {
            scale,
            trees,
            usual_path,
        }
    }
}
