//! Keeps the embedded PostgreSQL alive: when its postmaster dies, it is started again in place.

use crate::handles::Identity;
use crate::message::Worker;
use crate::supervised;
use actix::{Actor, ActorContext, AsyncContext, Context, WrapFuture, fut::ActorFutureExt};
use std::sync::Arc;
use std::time::Duration;
use velox_store::embedded::EmbeddedPostgres;

/// How often it looks for an injected fault: nobody sends it a message that could meet one.
const STRIKE_PERIOD: Duration = Duration::from_millis(500);

/// Watches over the postmaster for as long as the node runs.
pub struct Keeper {
    me: Identity,
    postgres: Arc<EmbeddedPostgres>,
}

impl Keeper {
    /// A keeper of this postmaster.
    pub fn new(me: &Identity, postgres: Arc<EmbeddedPostgres>) -> Self {
        Keeper { me: me.clone(), postgres }
    }

    fn strike(&mut self, ctx: &mut Context<Self>) {
        let me = self.me.clone();
        let busy = me.stats().begin();
        let strike = async move {
            if let Err(fault) = me.faults().strike(me.name()).await {
                me.stats().note_error(&fault);
            }
            drop(busy);
        };
        ctx.spawn(strike.into_actor(self));
    }
}

supervised!(Keeper);

impl Actor for Keeper {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let postgres = self.postgres.clone();
        let watch = async move { postgres.watch().await }.into_actor(self);
        // It ends when the node stops the postmaster.
        ctx.spawn(watch.map(|_, _, ctx: &mut Context<Self>| ctx.stop()));
        ctx.run_interval(STRIKE_PERIOD, Self::strike);
    }
}

impl Worker for Keeper {
    fn identity(&self) -> &Identity {
        &self.me
    }
}
