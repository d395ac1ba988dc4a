//! Debts and their payments (rules 5 and 6).

use super::sales::Sales;
use super::stands::Standing;
use super::{Mark, Said, Tables};
use crate::V1_NODE_DEVICE;
use crate::decimal::Column;
use crate::payload::{Debt, Money, Payment, derived_debt_id, link_id};
use crate::standing::{DebtRow, DebtStatus, Linked, PaymentRow};
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use uuid::Uuid;

/// What is left of a debt without being owed.
const CENT: Decimal = Decimal::from_parts(1, 0, 0, false, 2);

/// What links two candidates for a debt.
#[derive(PartialEq, Eq, Hash)]
enum DebtLink {
    Debt(Uuid),
    /// The standing sale, or a sale id that no SaleCreated bears.
    Sale(Uuid),
}

/// What links two payments.
#[derive(PartialEq, Eq, Hash)]
enum PaymentLink {
    Payment(Uuid),
    Request(Uuid),
}

/// Who may be a debt: a DebtCreated, or a standing sale on credit by itself.
struct Candidate<'a> {
    debt_id: Uuid,
    /// The DebtCreated, or the SaleCreated.
    event: &'a Linked,
    /// `None`: derived.
    stated: Option<&'a Debt>,
    /// The standing sale that is meant, by its place among the sales.
    sale: Option<usize>,
    amount: Money,
}

#[derive(Clone, Copy)]
enum Currency {
    Plain,
    Usd,
    Bs,
}

/// Rule 5: "plain if given, else USD if amount_usd > 0.01, else Bs".
fn currency(amount: &Money) -> Currency {
    if amount.plain.is_some() {
        Currency::Plain
    } else if amount.usd.is_some_and(|usd| usd > CENT) {
        Currency::Usd
    } else {
        Currency::Bs
    }
}

/// Rule 5: "A payment counts … with its amount in that currency, else its plain amount, else 0 (for a plain
/// debt: plain, else usd, else bs)."
fn counted(paid: &Money, currency: Currency) -> Decimal {
    let amount = match currency {
        Currency::Plain => paid.plain.or(paid.usd).or(paid.bs),
        Currency::Usd => paid.usd.or(paid.plain),
        Currency::Bs => paid.bs.or(paid.plain),
    };
    amount.unwrap_or(Decimal::ZERO)
}

pub(super) fn write(
    store_id: Uuid,
    sales: &Sales<'_>,
    debts: &[Said<'_, Debt>],
    payments: &[Said<'_, Payment>],
    tables: &mut Tables,
) {
    let candidates = candidates(store_id, sales, debts);
    let standing = Standing::of(candidates.iter().map(|candidate| candidate.links(sales)));
    let mut paid: Vec<Paid> = candidates.iter().map(|_| Paid::default()).collect();
    // Rule 6: "Payments are linked by payment_id or request_id."
    let payments_standing = Standing::of(payments.iter().map(|Said { event, says: payment, .. }| {
        let requests = [&event.request_id, &payment.request_id].into_iter().flatten();
        let requests = requests.map(|request| PaymentLink::Request(link_id(request)));
        requests.chain([PaymentLink::Payment(payment.payment_id)]).collect()
    }));
    for (place, payment) in payments.iter().enumerate() {
        if payments_standing.is_absorbed(place) {
            let stands = &payments[payments_standing.stand(place)];
            tables.exceptions.insert(payment.event_id(), Mark::Absorbed(stands.event_id()));
            continue;
        }
        let named = payment.says.debt_id;
        let (debt_id, counts) = match standing.meant(&DebtLink::Debt(named)) {
            Some(debt) => {
                let counts = counted(&payment.says.amount, currency(&candidates[debt].amount));
                paid[debt].add(counts, payment.event.key.created_at);
                (candidates[debt].debt_id, counts)
            }
            // "A payment before its debt has its row at once (debt_id as given), waits, and counts."
            None => {
                tables.exceptions.insert(payment.event_id(), Mark::Waiting(named.to_string()));
                (named, counted(&payment.says.amount, Currency::Plain))
            }
        };
        let row = PaymentRow::new(payment.event, payment.says, debt_id, counts);
        tables.payments.insert(payment.says.payment_id, row);
    }
    for (place, candidate) in candidates.iter().enumerate() {
        if !standing.is_absorbed(place) {
            tables.debts.insert(candidate.debt_id, candidate.row(sales, &paid[place]));
        } else if candidate.stated.is_some() {
            let stands = candidates[standing.stand(place)].event.key.event_id.clone();
            tables.exceptions.insert(candidate.event.key.event_id.clone(), Mark::Absorbed(stands));
        }
    }
}

/// What was paid of one debt.
#[derive(Default)]
struct Paid {
    sum: Decimal,
    last: Option<DateTime<Utc>>,
}

impl Paid {
    fn add(&mut self, amount: Decimal, at: DateTime<Utc>) {
        self.sum = self.sum.saturating_add(amount);
        self.last = self.last.max(Some(at));
    }
}

/// Rule 5: all that may be a debt, the smallest first: "an event of a real device before one of the pseudo-device
/// before the derived one, then the Key".
fn candidates<'a>(store_id: Uuid, sales: &Sales<'a>, debts: &[Said<'a, Debt>]) -> Vec<Candidate<'a>> {
    let stated = debts.iter().map(|Said { event, says: debt, .. }| Candidate {
        debt_id: debt.debt_id,
        event,
        stated: Some(debt),
        sale: debt.sale_id.and_then(|id| sales.meant(id)),
        amount: debt.amount,
    });
    let on_credit =
        sales.standing().filter(|(_, sale)| sale.says.is_fiao() && sale.says.customer_id.is_some());
    let derived = on_credit.map(|(place, sale)| Candidate {
        debt_id: derived_debt_id(store_id, sale.says.sale_id),
        event: sale.event,
        stated: None,
        sale: Some(place),
        amount: sale.says.total,
    });
    let mut all: Vec<Candidate<'_>> = stated.chain(derived).collect();
    all.sort_by(|a, b| (a.rank(), &a.event.key).cmp(&(b.rank(), &b.event.key)));
    all
}

impl Candidate<'_> {
    fn rank(&self) -> u8 {
        match self.stated {
            Some(_) if self.event.key.device_id != V1_NODE_DEVICE => 0,
            Some(_) => 1,
            None => 2,
        }
    }

    /// Rule 5: "Linked by the same debt_id or the same meant sale (a sale_id without a SaleCreated links by
    /// itself)."
    fn links(&self, sales: &Sales<'_>) -> Vec<DebtLink> {
        let sale = DebtLink::Sale;
        [DebtLink::Debt(self.debt_id)].into_iter().chain(self.sale_id(sales).map(sale)).collect()
    }

    /// The standing sale's id, else the stated one.
    fn sale_id(&self, sales: &Sales<'_>) -> Option<Uuid> {
        match self.sale {
            Some(place) => Some(sales.get(place).says.sale_id),
            None => self.stated.and_then(|debt| debt.sale_id),
        }
    }

    fn row(&self, sales: &Sales<'_>, paid: &Paid) -> DebtRow {
        let currency = currency(&self.amount);
        let of = |money: &Money| match currency {
            Currency::Plain => money.plain,
            Currency::Usd => money.usd,
            Currency::Bs => money.bs,
        };
        let sale = self.sale.map(|place| sales.get(place).says);
        let void = self.sale.and_then(|place| sales.void(place));
        let total = of(&self.amount).unwrap_or(Decimal::ZERO);
        // "opening: remaining_amount, else the total"
        let stated_opening = self.stated.and_then(|debt| debt.remaining.plain.or(of(&debt.remaining)));
        // "remaining = opening − Σ payments"
        let left = stated_opening.unwrap_or(total).saturating_sub(paid.sum);
        let (status, remaining) = if void.is_some() {
            (DebtStatus::Cancelled, Decimal::ZERO)
        } else if left <= CENT {
            (DebtStatus::Paid, Decimal::ZERO)
        } else if paid.sum > Decimal::ZERO {
            (DebtStatus::Partial, left)
        } else {
            (DebtStatus::Pending, left)
        };
        let key = &self.event.key;
        let round = |amount: Option<Decimal>| amount.map(|amount| Column::Amount.round(amount));
        DebtRow {
            customer_id: match self.stated {
                Some(debt) => debt.customer_id,
                None => sale.and_then(|sale| sale.customer_id),
            },
            sale_id: self.sale_id(sales),
            total_amount: Column::Amount.round(total),
            remaining_amount: Column::Amount.saturate(remaining),
            amount_bs: round(self.amount.bs),
            amount_usd: round(self.amount.usd),
            overpaid_amount: Column::Amount.saturate(-left).max(Decimal::ZERO),
            status,
            currency: match currency {
                Currency::Plain => {
                    let stated = self.stated.and_then(|debt| debt.currency.clone());
                    stated.or_else(|| sale.and_then(|sale| sale.currency.clone()))
                }
                Currency::Usd => Some("USD".to_owned()),
                Currency::Bs => Some("BS".to_owned()),
            },
            derived: self.stated.is_none(),
            notes: self.stated.and_then(|debt| debt.notes.clone()),
            due_at: self.stated.and_then(|debt| debt.due_at),
            created_at: self.stated.and_then(|debt| debt.created_at).unwrap_or(key.created_at),
            created_by: self.event.actor.clone(),
            updated_at: [paid.last, void.map(|void| void.event.key.created_at)]
                .into_iter()
                .flatten()
                .fold(key.created_at, DateTime::max),
            event_id: self.stated.map(|_| key.event_id.clone()),
        }
    }
}
