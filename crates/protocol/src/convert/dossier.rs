//! What is kept of an attempt that ended, and how far a pull has come.

use domain::{
    dossier::{Dossier, DossierLine, DossierProbe, MemoryPoint},
    pull::{LayerProgress, PullProgress},
};

use super::{
    ConvertError, Problem, each, id, inner, probe::probe_result_message, time::timestamp_opt, timestamp,
    timestamp_message,
};
use crate::proto;

impl TryFrom<proto::Dossier> for Dossier {
    type Error = ConvertError;

    fn try_from(m: proto::Dossier) -> Result<Self, ConvertError> {
        if m.attempt == 0 {
            return Err(ConvertError::new("attempt", Problem::OutOfRange));
        }
        Ok(Self {
            instance_id: id("instance_id", &m.instance_id)?,
            attempt: m.attempt,
            ended_at: timestamp("ended_at", m.ended_at)?,
            outcome: inner("outcome", m.outcome)?,
            container_id: m.container_id,
            log: each("log", m.log)?,
            log_cut: m.log_cut,
            probes: each("probes", m.probes)?,
            memory: each("memory", m.memory)?,
            memory_limit_bytes: m.memory_limit_bytes,
        })
    }
}

impl From<&Dossier> for proto::Dossier {
    fn from(dossier: &Dossier) -> Self {
        Self {
            instance_id: dossier.instance_id.to_string(),
            attempt: dossier.attempt,
            ended_at: Some(timestamp_message(&dossier.ended_at)),
            outcome: Some((&dossier.outcome).into()),
            container_id: dossier.container_id.clone(),
            log: dossier.log.iter().map(Into::into).collect(),
            log_cut: dossier.log_cut,
            probes: dossier.probes.iter().map(|p| probe_result_message(p.probe, &p.result)).collect(),
            memory: dossier.memory.iter().map(Into::into).collect(),
            memory_limit_bytes: dossier.memory_limit_bytes,
        }
    }
}

impl TryFrom<proto::LogLine> for DossierLine {
    type Error = ConvertError;

    fn try_from(m: proto::LogLine) -> Result<Self, ConvertError> {
        Ok(Self {
            at: timestamp_opt("at", m.at)?,
            stderr: m.stderr,
            text: String::from_utf8_lossy(&m.text).into_owned(),
            partial: m.partial,
        })
    }
}

impl From<&DossierLine> for proto::LogLine {
    fn from(line: &DossierLine) -> Self {
        Self {
            at: line.at.as_ref().map(timestamp_message),
            stderr: line.stderr,
            text: line.text.clone().into_bytes().into(),
            partial: line.partial,
        }
    }
}

impl TryFrom<proto::ProbeResult> for DossierProbe {
    type Error = ConvertError;

    fn try_from(m: proto::ProbeResult) -> Result<Self, ConvertError> {
        Ok(Self { probe: m.probe, result: m.try_into()? })
    }
}

impl TryFrom<proto::MemoryPoint> for MemoryPoint {
    type Error = ConvertError;

    fn try_from(m: proto::MemoryPoint) -> Result<Self, ConvertError> {
        Ok(Self { at: timestamp("at", m.at)?, bytes: m.bytes })
    }
}

impl From<&MemoryPoint> for proto::MemoryPoint {
    fn from(point: &MemoryPoint) -> Self {
        Self { at: Some(timestamp_message(&point.at)), bytes: point.bytes }
    }
}

impl TryFrom<proto::PullProgress> for PullProgress {
    type Error = ConvertError;

    fn try_from(m: proto::PullProgress) -> Result<Self, ConvertError> {
        Ok(Self {
            image: m.image,
            instance_ids: m
                .instance_ids
                .iter()
                .map(|text| id("instance_ids", text))
                .collect::<Result<_, _>>()?,
            at: timestamp("at", m.at)?,
            attempt: m.r#try,
            layers: m
                .layers
                .into_iter()
                .map(|m| LayerProgress {
                    id: m.id,
                    status: m.status,
                    current_bytes: m.current_bytes,
                    total_bytes: m.total_bytes,
                })
                .collect(),
        })
    }
}

impl From<&PullProgress> for proto::PullProgress {
    fn from(progress: &PullProgress) -> Self {
        let layer = |layer: &LayerProgress| proto::pull_progress::Layer {
            id: layer.id.clone(),
            status: layer.status.clone(),
            current_bytes: layer.current_bytes,
            total_bytes: layer.total_bytes,
        };
        Self {
            image: progress.image.clone(),
            instance_ids: progress.instance_ids.iter().map(ToString::to_string).collect(),
            at: Some(timestamp_message(&progress.at)),
            layers: progress.layers.iter().map(layer).collect(),
            r#try: progress.attempt,
        }
    }
}
