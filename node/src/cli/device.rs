//! `velox device add|revoke|list`.

use super::{Context, Outcome, output};
use crate::clock::fresh_id;
use crate::http::auth::{new_device_token, token_hash};
use clap::Subcommand;
use serde_json::json;
use uuid::Uuid;
use velox_protocol::event::normal_id;

/// Arguments of `device`.
#[derive(Debug, clap::Args)]
pub(crate) struct Device {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Give a till a token; an old one dies
    Add {
        /// Its shop
        #[arg(long, value_name = "UUID")]
        store: Uuid,
        /// Its id; none: a new one
        #[arg(long, value_name = "ID")]
        device: Option<String>,
    },
    /// Withdraw a till's token
    Revoke {
        /// Its shop
        #[arg(long, value_name = "UUID")]
        store: Uuid,
        /// Its id
        #[arg(long, value_name = "ID")]
        device: String,
    },
    /// All tills
    List {
        /// Of this shop alone
        #[arg(long, value_name = "UUID")]
        store: Option<Uuid>,
    },
}

impl Device {
    pub(super) async fn run(self, context: Context) -> anyhow::Result<Outcome> {
        let database = context.database().await?;
        let done = self.on(&context, &database.store).await;
        database.close().await?;
        done.map(|()| Outcome::Fine)
    }

    async fn on(self, context: &Context, db: &velox_store::Store) -> anyhow::Result<()> {
        match self.command {
            Command::Add { store, device } => {
                let device = device.unwrap_or_else(|| fresh_id().to_string());
                let device = normal_id(device.trim());
                let sound = (1..=128).contains(&device.len()) && !device.chars().any(char::is_control);
                anyhow::ensure!(sound, "a device id has 1 to 128 characters");
                let token = new_device_token(&mut rand::rng());
                let hash = token_hash(token.expose());
                anyhow::ensure!(
                    db.set_device_token(store, &device, &hash).await?,
                    "there is no store {store}"
                );
                if context.json {
                    let answer = json!({ "store_id": store, "device_id": device, "token": token.expose() });
                    return output::json(&answer);
                }
                println!("device {device}\ntoken  {}\nIt is shown this once.", token.expose());
            }
            Command::Revoke { store, device } => {
                let device = normal_id(&device);
                anyhow::ensure!(
                    db.revoke_device(store, &device).await?,
                    "there is no device {device} in store {store}"
                );
                if context.json {
                    return output::json(&json!({ "store_id": store, "device_id": device, "revoked": true }));
                }
                println!("device {device}: its token is refused within seconds");
            }
            Command::List { store } => {
                let devices = db.devices(store).await?;
                if context.json {
                    return output::json(&devices);
                }
                let mut table = output::table(&["store", "device", "registered", "last event", "revoked"]);
                for device in devices {
                    table.add_row([
                        device.store_id.to_string(),
                        output::plain(&device.device_id),
                        device.created_at.to_rfc3339(),
                        device.last_seen_at.map(|at| at.to_rfc3339()).unwrap_or_default(),
                        device.revoked_at.map(|at| at.to_rfc3339()).unwrap_or_default(),
                    ]);
                }
                println!("{table}");
            }
        }
        Ok(())
    }
}
