//! The catalogue of event types: the one place that says which there are, how urgent each is to a peer and
//! who projects it. Never here: the fields of a payload.

/// An entity with a projector of its own, `projector.{name}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entity {
    /// Sales with their items, movements and voids.
    Sale,
    /// Debts and their payments.
    Debt,
    /// Stock movements; later quotas too.
    Stock,
    /// Products and prices.
    Product,
    /// Customers.
    Customer,
    /// Cash sessions and ledger entries.
    Cash,
    /// Declarations of stores and series, and every type that no table of this version shows.
    Store,
}

impl Entity {
    /// All of them, in the order of the supervisor tree.
    pub const ALL: [Entity; 7] = [
        Entity::Sale,
        Entity::Debt,
        Entity::Stock,
        Entity::Product,
        Entity::Customer,
        Entity::Cash,
        Entity::Store,
    ];

    /// The name in the outbox, in `projector.{name}`, in faults and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Entity::Sale => "sale",
            Entity::Debt => "debt",
            Entity::Stock => "stock",
            Entity::Product => "product",
            Entity::Customer => "customer",
            Entity::Cash => "cash",
            Entity::Store => "store",
        }
    }
}

/// What an event type is to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TypeInfo {
    /// The name on the wire.
    pub name: &'static str,
    /// Relay priority, smaller first.
    pub priority: i16,
    /// Who handles its outbox entry.
    pub entity: Entity,
    /// Whether this version has tables for it; the others are stored and 'skipped'.
    pub projected: bool,
    /// v1's critical types: a v1 node's wrong hash refuses them.
    pub critical: bool,
}

/// Relay priority of a type that is not in the catalogue.
pub const UNKNOWN_PRIORITY: i16 = 10;
/// The latest payload version that this build projects; newer ones are stored and 'skipped'.
pub const LATEST_PAYLOAD_VERSION: i32 = 1;

const fn row(name: &'static str, priority: i16, entity: Entity) -> TypeInfo {
    TypeInfo { name, priority, entity, projected: true, critical: false }
}

const fn critical(mut info: TypeInfo) -> TypeInfo {
    info.critical = true;
    info
}

const fn stored(mut info: TypeInfo) -> TypeInfo {
    info.projected = false;
    info
}

/// Every known type.
pub const TYPES: &[TypeInfo] = &[
    critical(row("CashSessionOpened", 1, Entity::Cash)),
    critical(row("CashSessionClosed", 2, Entity::Cash)),
    row("ProductCreated", 3, Entity::Product),
    row("ProductUpdated", 3, Entity::Product),
    row("ProductDeactivated", 3, Entity::Product),
    row("PriceChanged", 3, Entity::Product),
    row("CustomerCreated", 3, Entity::Customer),
    row("CustomerUpdated", 3, Entity::Customer),
    row("DebtCreated", 4, Entity::Debt),
    critical(row("SaleCreated", 5, Entity::Sale)),
    critical(row("StockReceived", 5, Entity::Stock)),
    critical(row("StockAdjusted", 5, Entity::Stock)),
    row("StockDeltaApplied", 5, Entity::Stock),
    stored(row("StockQuotaGranted", 5, Entity::Stock)),
    stored(row("StockQuotaTransferred", 5, Entity::Stock)),
    stored(row("StockQuotaReclaimed", 5, Entity::Stock)),
    critical(row("DebtPaymentRecorded", 6, Entity::Debt)),
    row("DebtPaymentAdded", 6, Entity::Debt),
    critical(row("SaleVoided", 7, Entity::Sale)),
    row("CashLedgerEntryCreated", 8, Entity::Cash),
    row("StoreDeclared", 3, Entity::Store),
    row("FiscalSeriesDeclared", 3, Entity::Store),
    stored(row("RecipeIngredientsUpdated", 10, Entity::Store)),
];

/// What is known of a type, `None` for a foreign one.
pub fn find(event_type: &str) -> Option<&'static TypeInfo> {
    TYPES.iter().find(|info| info.name == event_type)
}

/// Relay priority of any type.
pub fn priority(event_type: &str) -> i16 {
    find(event_type).map_or(UNKNOWN_PRIORITY, |info| info.priority)
}

/// Who handles the outbox entry of any type.
pub fn entity(event_type: &str) -> Entity {
    find(event_type).map_or(Entity::Store, |info| info.entity)
}

/// Whether this version projects an event of that type and payload version.
pub fn is_projected(event_type: &str, version: i32) -> bool {
    version <= LATEST_PAYLOAD_VERSION && find(event_type).is_some_and(|info| info.projected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_goes_before_its_sale_and_a_debt_before_its_payment() {
        assert!(priority("CashSessionOpened") < priority("SaleCreated"));
        assert!(priority("DebtCreated") < priority("DebtPaymentRecorded"));
        assert!(priority("SaleCreated") < priority("SaleVoided"));
        assert_eq!(priority("SomethingNew"), UNKNOWN_PRIORITY);
    }

    #[test]
    fn names_are_unique_and_fit_the_column() {
        for (i, info) in TYPES.iter().enumerate() {
            assert!(TYPES[..i].iter().all(|t| t.name != info.name), "{}", info.name);
            assert!(info.name.len() <= 100);
        }
    }
}
