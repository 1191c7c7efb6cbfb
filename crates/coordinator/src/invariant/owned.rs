//! RS32: what restarts beside others gets what it had, and nothing of what they still have.

use std::collections::BTreeMap;

use streamd_core::id::{CheckpointId, OperatorId, SubtaskId};
use streamd_core::protocol::{Deployment, WorkerCommand, WorkerEvent};
use streamd_core::snapshot::OperatorSubtaskState;

use super::audit::{Checked, ensure};
use crate::action::Action;
use crate::event::Event;

/// The elements of the lists of a subtask.
type Lists = BTreeMap<(OperatorId, String), Vec<Vec<u8>>>;

/// Which subtask has which elements.
#[derive(Debug, Clone, Default)]
pub(super) struct Owned {
    /// What the whole job was last started from: what is acknowledged of that or of older ones was had by others.
    restored: Option<CheckpointId>,
    /// In the snapshots that were acknowledged since then.
    acknowledged: BTreeMap<CheckpointId, BTreeMap<SubtaskId, Lists>>,
    /// When it was last deployed.
    dealt: BTreeMap<SubtaskId, Lists>,
}

impl Owned {
    /// Looks at one event and what the machine made of it.
    pub(super) fn observe(&mut self, event: &Event, actions: &[Action]) -> Checked {
        if let Event::Worker(
            _,
            WorkerEvent::Acknowledge {
                checkpoint,
                subtask,
                snapshot,
                ..
            },
        ) = event
            && Some(*checkpoint) > self.restored
        {
            let of_checkpoint = self.acknowledged.entry(*checkpoint).or_default();
            // The first counts, as it does for the job.
            of_checkpoint
                .entry(*subtask)
                .or_insert_with(|| lists(&snapshot.operators));
        }
        let deployments: Vec<&Deployment> = actions.iter().filter_map(deployment).collect();
        let is_partial = deployments.iter().any(|deployment| !deployment.kept.is_empty());
        if let Some(deployment) = deployments.first().filter(|_| !is_partial) {
            self.restored = deployment.restored;
            self.acknowledged.clear();
        }
        for deployment in deployments {
            for it in deployment.slots.iter().flat_map(|slot| &slot.subtasks) {
                let given = lists(&it.state);
                let had = deployment
                    .restored
                    .and_then(|id| self.acknowledged.get(&id)?.get(&it.subtask));
                let had = had.or_else(|| self.dealt.get(&it.subtask));
                ensure(!is_partial || had == Some(&given), "RS32", || {
                    format!("{} restarts beside others with {given:?}, and had {had:?}", it.subtask)
                })?;
                self.dealt.insert(it.subtask, given);
            }
        }
        Ok(())
    }
}

fn deployment(action: &Action) -> Option<&Deployment> {
    match action {
        Action::Send {
            command: WorkerCommand::Deploy(deployment),
            ..
        } => Some(deployment),
        _other => None,
    }
}

fn lists(state: &BTreeMap<OperatorId, OperatorSubtaskState>) -> Lists {
    let lists = state
        .iter()
        .flat_map(|(id, state)| state.lists.iter().map(move |list| (*id, list)));
    lists
        .filter(|(_, list)| !list.items.is_empty())
        .map(|(id, list)| ((id, list.name.clone()), list.items.clone()))
        .collect()
}
