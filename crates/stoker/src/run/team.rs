//! Settings that a team shares: what each card runs.

use memory_planner::TeamIdentity;

use crate::run::resolved::ResolvedConfig;

/// What must be the same for shared settings to hold: everything that a step's memory depends on.
pub(crate) fn identity_of(resolved: &ResolvedConfig, num_classes: usize) -> TeamIdentity {
    let (model, train) = (&resolved.config.model, &resolved.config.train);
    TeamIdentity {
        model: model.name.clone(),
        image_size: model.image_size,
        effective_batch_size: train.effective_batch_size,
        config_digest: format!(
            "in_channels {}, classes {num_classes}, clip {}, ema {}, checkpointing {:?}, rounding {:?}",
            model.in_channels,
            train.clip_norm.is_some(),
            train.ema_decay.is_some(),
            resolved.config.memory.checkpointing,
            resolved.config.memory.rounding,
        )
        .to_lowercase(),
    }
}
