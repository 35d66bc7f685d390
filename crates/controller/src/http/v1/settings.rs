//! Settings that hold in all controllers from the moment that they are set.

use actix_web::{HttpResponse, get, patch, web::Data};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::super::{
    extract::{Allowed, Body},
    problem::Problems,
};
use crate::{
    auth::policy::{SettingsRead, SettingsWrite},
    error::Error,
    service::{Services, identity::account::Registration},
};

/// What is to change; what is left out stays, and null is as the configuration says.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SettingsUpdate {
    /// Who may register: `open`, `invite`, `closed`, or null.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    registration: Option<Option<String>>,
    /// The share of the fleet, 1 to 100 percent, from which on copies on nodes that were
    /// lost at once are not replaced; 0 for no limit, null for 34.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u32>)]
    mass_loss_percent: Option<Option<u32>>,
}

/// Tells null from what is left out.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Settings, as they hold.
#[derive(Serialize, ToSchema)]
pub struct SettingsView {
    /// Who may register: `open`, `invite` or `closed`.
    registration: String,
    /// What the configuration says, which holds where nobody sets anything else.
    registration_configured: String,
    /// Who set it; null where it is as the configuration says.
    registration_set_by: Option<String>,
    /// When.
    registration_set_at: Option<DateTime<Utc>>,
    /// The share of the fleet, in percent, from which on copies on nodes that were lost
    /// at once are not replaced; 0: no limit.
    mass_loss_percent: u32,
}

async fn view(services: &Services) -> Result<HttpResponse, Error> {
    let policy = services.registration().await?;
    let (set_by, set_at) = policy.set.unzip();
    Ok(HttpResponse::Ok().json(SettingsView {
        registration: policy.effective.as_str().to_owned(),
        registration_configured: policy.configured.as_str().to_owned(),
        registration_set_by: set_by,
        registration_set_at: set_at,
        mass_loss_percent: services.mass_loss_percent().await?,
    }))
}

/// Shows the settings.
#[utoipa::path(tag = "settings", security(("bearer" = [])), responses((status = 200, body = SettingsView), Problems))]
#[get("/settings")]
pub(super) async fn settings_get(
    services: Data<Services>,
    _caller: Allowed<SettingsRead>,
) -> Result<HttpResponse, Error> {
    view(&services).await
}

/// Changes settings; they hold in all controllers at once.
#[utoipa::path(tag = "settings", security(("bearer" = [])), request_body = SettingsUpdate, responses((status = 200, body = SettingsView), Problems))]
#[patch("/settings")]
pub(super) async fn settings_update(
    services: Data<Services>,
    caller: Allowed<SettingsWrite>,
    body: Body<SettingsUpdate>,
) -> Result<HttpResponse, Error> {
    let SettingsUpdate { registration, mass_loss_percent } = body.read()?;
    if let Some(percent) = mass_loss_percent {
        services.mass_loss_percent_set(percent, &caller.actor).await?;
    }
    if let Some(registration) = registration {
        let read = |name: String| {
            Registration::parse(&name)
                .ok_or_else(|| Error::invalid_field("registration", "must be open, invite, closed or null"))
        };
        services.registration_set(registration.map(read).transpose()?, &caller.actor).await?;
    }
    view(&services).await
}
