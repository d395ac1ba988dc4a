//! What a till may sell before it asks anybody, and how much stock it asks to have reserved for it.
//!
//! Any client in any language can follow the same rules: `vectors/stock_policy.json` has their cases. Never here: what
//! a node answers to a sale that was made (it never refuses one), who grants a reservation.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

/// Best sellers for which stock is reserved.
const RESERVED_PRODUCTS: usize = 50;
/// Days of sales that are reserved.
const RESERVED_DAYS: Decimal = Decimal::from_parts(5, 0, 0, false, 1);
/// Least and most that is asked for of a product.
const RESERVED_LEAST: Decimal = Decimal::TWO;
const RESERVED_MOST: Decimal = Decimal::from_parts(20, 0, 0, false, 0);

/// Whether the node can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Connection {
    /// It can: what is short is somebody else's to see at once.
    Online,
    /// It cannot: another till may sell the same unit.
    Offline,
}

/// A product that is to be sold, all lines of it together, with what the till knows of its stock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The product.
    pub product_id: String,
    /// For people.
    pub name: String,
    /// How much of it.
    pub requested: Decimal,
    /// Whether its stock is counted at all.
    pub tracked: bool,
    /// Stock less all active escrow, as the till has it; `None`: it could not be read.
    pub stock_view: Option<Decimal>,
    /// What is reserved for this till and not yet used.
    #[serde(default)]
    pub own_escrow: Decimal,
}

/// A product that is short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shortage {
    /// The product.
    pub product_id: String,
    /// For people.
    pub name: String,
    /// How much was asked for.
    pub requested: Decimal,
    /// How much there is for this till; may be negative.
    pub available: Decimal,
    /// For the cashier.
    pub message: String,
}

/// Whether a sale may be made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Nothing forbids it.
    pub valid: bool,
    /// What is short and may be sold all the same.
    pub warnings: Vec<Shortage>,
    /// What must not be sold.
    pub errors: Vec<Shortage>,
}

/// Judges a sale before it is made. Only a till that is offline and has none is held back: nobody else could see that
/// the last one is sold twice.
pub fn judge(connection: Connection, sale: &[Asked]) -> Verdict {
    let mut verdict = Verdict::default();
    for asked in sale.iter().filter(|asked| asked.tracked) {
        // What cannot be read stops no sale.
        let Some(view) = asked.stock_view else { continue };
        let available = view + asked.own_escrow;
        if available >= asked.requested {
            continue;
        }
        let shortage = shortage(asked, available);
        if connection == Connection::Offline && available <= Decimal::ZERO {
            verdict.errors.push(shortage);
        } else {
            verdict.warnings.push(shortage);
        }
    }
    verdict.valid = verdict.errors.is_empty();
    verdict
}

fn shortage(asked: &Asked, available: Decimal) -> Shortage {
    let (name, requested) = (&asked.name, asked.requested.normalize());
    Shortage {
        product_id: asked.product_id.clone(),
        name: asked.name.clone(),
        requested: asked.requested,
        available,
        message: format!("{name}: {requested} asked for, {} available", available.normalize()),
    }
}

/// How a product sells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seller {
    /// The product.
    pub product_id: String,
    /// Whether its stock is counted at all.
    pub tracked: bool,
    /// Units a day.
    pub average_daily_sales: Decimal,
}

/// What a till asks to have reserved before it goes offline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EscrowWish {
    /// The product.
    pub product_id: String,
    /// Whole units.
    pub qty: Decimal,
}

/// Half a day's sales of each of the 50 best sellers that are counted, 2 to 20. `sellers`: the best first.
pub fn escrow_wishes(sellers: &[Seller]) -> Vec<EscrowWish> {
    let wish = |seller: &Seller| EscrowWish {
        product_id: seller.product_id.clone(),
        // Sums of sales are far from the bounds of a decimal; one that is not is asked for at its most.
        qty: seller
            .average_daily_sales
            .checked_mul(RESERVED_DAYS)
            .map_or(RESERVED_MOST, |half| half.ceil().clamp(RESERVED_LEAST, RESERVED_MOST)),
    };
    sellers.iter().take(RESERVED_PRODUCTS).filter(|seller| seller.tracked).map(wish).collect()
}
