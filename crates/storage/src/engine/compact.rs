//! A compaction, from the choice to the new view.
//!
//! ```text
//!   pick ─► begin ─► run: reads and writes tables, no lock held ─► names synced
//!     under `compacting`                                               │
//!                       end ◄─ new view ◄─ manifest ◄──────────────────┘
//! ```
//!
//! Several may be under way at once; the picker sees to it that they have nothing in common. A
//! crash before the manifest is switched leaves files that the next opening removes. The rows that
//! the cache of hot rows has stay right: the newest version of a key is the same before and after,
//! or a tombstone that nobody can look behind, and nothing.

use std::ops::ControlFlow;
use std::sync::Arc;

use base::KeyspaceId;

use super::Engine;
use crate::compaction::{self, Choice, Failed, InProgress, Plan, Progress, Shape};
use crate::directory::{FileId, FileKind};
use crate::error::Result;
use crate::manifest::Edit;
use crate::sync::{Ordering, lock};
use crate::version::{Opened, Style, TreeId};

/// What is being compacted.
#[derive(Default)]
pub(super) struct Compactions {
    in_progress: InProgress,
}

impl Compactions {
    /// Returns what is under way.
    pub(super) fn busy(&self) -> &InProgress {
        &self.in_progress
    }
}

/// What a call of [`Engine::compact_next`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compacted {
    /// There was nothing to do.
    Nothing,
    /// Tables were merged, moved or dropped.
    Something,
    /// It was told to stop before it was through; nothing has changed.
    Stopped,
}

impl Engine {
    /// Carries out the compaction that is most needed, if any is. `now_ms` is what the wall clock
    /// shows; `pace` is called every few hundred kilobytes with what was done so far, may take its
    /// time, and can stop the compaction.
    ///
    /// # Errors
    /// `Damaged` if a table is not sound, `DiskFull`, the system's errors: nothing has changed.
    pub fn compact_next(
        &self,
        now_ms: u64,
        pace: impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Compacted> {
        let watermark = self.pins.watermark();
        let (view, choice) = {
            let mut compactions = lock(&self.compacting);
            let view = self.view.load_full();
            let shape = Shape::from(&*view.version);
            let in_progress = &compactions.in_progress;
            let choice = compaction::pick(&shape, &self.compaction, in_progress, watermark, now_ms);
            if let Some(plan) = choice.plan() {
                compactions.in_progress.begin(plan);
            }
            (view, choice)
        };
        let Some(plan) = choice.plan() else { return Ok(Compacted::Nothing) };
        let done = match &choice {
            Choice::Move(plan) => self.name_compacted(plan, plan.edit(true)),
            Choice::Drop(plan) => self.name_compacted(plan, plan.edit(false)),
            _ => self.merge(plan, &view.version, watermark, pace),
        };
        drop(view);
        lock(&self.compacting).in_progress.end(plan);
        self.tables.remove_obsolete();
        self.debt_hint.store(self.debt_bytes(), Ordering::Relaxed);
        done
    }

    /// Gives a keyspace a tree of its own, compacted as `style` says. To be called before anything
    /// is written to the keyspace: what is in another tree would not be found any more.
    ///
    /// # Errors
    /// The system's errors: nothing has changed then.
    ///
    /// # Durability
    /// The tree survives a crash once this returns.
    pub fn add_tree(&self, keyspace: KeyspaceId, style: Style) -> Result<()> {
        let tree = TreeId(keyspace.0);
        assert_ne!(tree, TreeId::DEFAULT, "the default tree is everybody's");
        let mut manifest = lock(&self.manifest);
        let edit = Edit { styles: vec![(tree, style)], ..Edit::default() };
        manifest.apply(&edit)?;
        let version = Arc::new(self.view.load().version.apply(&edit, Opened::default()));
        let _install = lock(&self.install);
        let view = self.view.load_full();
        self.view.store(Arc::new(view.with_version(version)));
        Ok(())
    }

    /// Returns how the tree is compacted that a keyspace has of its own, if it has one.
    pub fn tree_style(&self, keyspace: KeyspaceId) -> Option<Style> {
        let view = self.view.load();
        let tree = view.version.tree(TreeId(keyspace.0)).filter(|tree| tree.id != TreeId::DEFAULT);
        tree.map(|tree| tree.style)
    }

    /// Returns whether compactions are under way. Until they have ended, others may have to wait
    /// for them.
    pub fn is_compacting(&self) -> bool {
        !lock(&self.compacting).in_progress.is_empty()
    }

    /// Returns the bytes that have to be compacted before all is well.
    pub fn debt_bytes(&self) -> u64 {
        let shape = Shape::from(&*self.view.load().version);
        compaction::debt_bytes(&shape, &self.compaction)
    }

    fn merge(
        &self,
        plan: &Plan,
        version: &crate::version::Version,
        watermark: base::Timestamp,
        pace: impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Compacted> {
        let options = self.tables.run_options(watermark);
        let create = |kind| self.tables.create(kind);
        let done = match compaction::run(plan, version, &options, create, pace) {
            Ok(done) => done,
            Err(Failed { error, created }) => {
                self.tables.discard(created);
                return error.map_or(Ok(Compacted::Stopped), Err);
            }
        };
        let counters = &self.counters;
        counters.compaction_read_bytes.fetch_add(done.progress.read_bytes, Ordering::Relaxed);
        counters.compaction_written_bytes.fetch_add(done.progress.written_bytes, Ordering::Relaxed);
        counters.moved_value_bytes.fetch_add(done.moved_value_bytes, Ordering::Relaxed);
        counters.compactions.fetch_add(1, Ordering::Relaxed);
        let gc_watermark = Some(watermark);
        self.name_compacted(plan, Edit { gc_watermark, last_ts: gc_watermark, ..done.edit })
    }

    /// Makes the edit of a compaction durable and shows it to readers.
    fn name_compacted(&self, plan: &Plan, mut edit: Edit) -> Result<Compacted> {
        let kept: Vec<u64> = plan.inputs.iter().map(|table| table.number).collect();
        let is_new = |number: u64| !kept.contains(&number);
        let files = edit.added_files();
        let created: Vec<FileId> =
            files.filter(|file| file.kind == FileKind::Values || is_new(file.number)).collect();
        let opened = self.tables.open_written(&edit, |meta| is_new(meta.number));
        let opened = opened.inspect_err(|_| self.tables.discard(created.iter().copied()))?;
        let mut manifest = lock(&self.manifest);
        // What began later may be done already.
        let risen = manifest.state().gc_watermark;
        edit.gc_watermark = edit.gc_watermark.map(|watermark| watermark.max(risen));
        if let Err(error) = manifest.apply(&edit) {
            if manifest.is_certain() {
                self.tables.discard(created);
            }
            return Err(error);
        }
        if created.is_empty() {
            self.counters.moves.fetch_add(1, Ordering::Relaxed);
        }
        self.counters.wrote(edit.added.iter().filter(|meta| is_new(meta.number)));
        let old = self.view.load().version.clone();
        let version = Arc::new(old.apply(&edit, opened));
        let after = version.clone();
        self.tables.account(&version);
        {
            let _install = lock(&self.install);
            let view = self.view.load_full();
            self.view.store(Arc::new(view.with_version(version)));
        }
        old.mark_obsolete(&edit, &after);
        Ok(Compacted::Something)
    }
}
