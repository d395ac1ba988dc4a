//! Debts and their payments (01, rules 5 and 6).

use super::absorb::Standing;
use super::rows::Currency;
use super::{DebtRow, DebtStatus, Linked, PaymentRow, Resolver, Sales};
use crate::V1_NODE_DEVICE;
use crate::decimal::Column;
use crate::payload::{Debt, LinkKind, Money, Payload, Payment, derived_debt_id, link_id};
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use std::collections::HashMap;
use uuid::Uuid;

/// Name space of debts that are linked by the standing sale that they mean.
const MEANT_SALE: u8 = 100;
/// Smallest amount that counts as one: what is at most this is paid.
const CENT: Decimal = Decimal::from_parts(1, 0, 0, false, 2);

/// A DebtCreated, or the debt that a standing sale on credit makes by itself.
struct Candidate<'a> {
    /// A real device's before the pseudo-device's before a derived one, then the key.
    class: u8,
    event: &'a Linked,
    debt_id: Uuid,
    sale: Option<usize>,
    stated: Option<&'a Debt>,
}

#[derive(Default)]
struct Paid {
    sum: Decimal,
    last: Option<DateTime<Utc>>,
}

impl Resolver {
    pub(super) fn debts(&mut self, sorted: &[&Linked], sales: &Sales<'_>) {
        let mut candidates = self.candidates(sorted, sales);
        candidates.sort_by(|a, b| (a.class, &a.event.key).cmp(&(b.class, &b.event.key)));
        let links: Vec<Vec<(u8, Uuid)>> = candidates.iter().map(|c| self.debt_links(c, sales)).collect();
        let standing = Standing::new(&links);
        let mut by_id: HashMap<Uuid, usize> = HashMap::new();
        for (i, candidate) in candidates.iter().enumerate() {
            let stand = standing.of(i);
            by_id.entry(candidate.debt_id).or_insert(stand);
            if stand != i && candidate.stated.is_some() {
                self.absorbed(candidate.event, candidates[stand].event);
            }
        }
        let paid = self.payments(sorted, &candidates, &by_id);
        for (i, candidate) in candidates.iter().enumerate() {
            if standing.of(i) == i {
                let row = debt_row(candidate, sales, paid.get(&i).unwrap_or(&Paid::default()));
                self.rows.debts.insert(candidate.debt_id, row);
            }
        }
    }

    fn candidates<'a>(&self, sorted: &[&'a Linked], sales: &Sales<'a>) -> Vec<Candidate<'a>> {
        let mut candidates = Vec::new();
        for event in sorted {
            if let Payload::Debt(debt) = &event.payload {
                candidates.push(Candidate {
                    class: u8::from(event.key.device_id == V1_NODE_DEVICE),
                    event,
                    debt_id: debt.debt_id,
                    sale: debt.sale_id.and_then(|id| sales.meant(id)),
                    stated: Some(debt),
                });
            }
        }
        for i in sales.standing() {
            let (event, sale) = sales.events[i];
            if sale.is_fiao() && sale.customer_id.is_some() {
                let debt_id = derived_debt_id(self.store_id, sale.sale_id);
                candidates.push(Candidate { class: 2, event, debt_id, sale: Some(i), stated: None });
            }
        }
        candidates
    }

    /// By the debt's id and by the sale that is meant; a sale that nobody made links by its own id.
    fn debt_links(&self, candidate: &Candidate<'_>, sales: &Sales<'_>) -> Vec<(u8, Uuid)> {
        let mut links = vec![(LinkKind::DebtId.space(), candidate.debt_id)];
        match candidate.sale {
            Some(sale) => links.push((MEANT_SALE, sales.events[sale].1.sale_id)),
            None => links.extend(
                candidate.stated.and_then(|debt| debt.sale_id).map(|id| (LinkKind::DebtSale.space(), id)),
            ),
        }
        links
    }

    /// Rows of the standing payments; the answer is what each standing debt has got.
    fn payments(
        &mut self,
        sorted: &[&Linked],
        candidates: &[Candidate<'_>],
        debts: &HashMap<Uuid, usize>,
    ) -> HashMap<usize, Paid> {
        let events: Vec<(&Linked, &Payment)> = sorted
            .iter()
            .filter_map(|e| if let Payload::Payment(p) = &e.payload { Some((*e, p.as_ref())) } else { None })
            .collect();
        let links: Vec<Vec<(u8, Uuid)>> = events.iter().map(|(e, p)| payment_links(e, p)).collect();
        let standing = Standing::new(&links);
        let mut paid: HashMap<usize, Paid> = HashMap::new();
        for (i, (event, payment)) in events.iter().enumerate() {
            if standing.of(i) != i {
                self.absorbed(event, events[standing.of(i)].0);
                continue;
            }
            let debt = debts.get(&payment.debt_id).copied();
            let counted = match debt {
                Some(debt) => {
                    let amount = counted(&payment.amount, currency(&candidates[debt]));
                    let total = paid.entry(debt).or_default();
                    total.sum = total.sum.saturating_add(amount);
                    total.last = total.last.max(Some(event.key.created_at));
                    amount
                }
                None => {
                    self.waiting(event, payment.debt_id);
                    counted(&payment.amount, Currency::Plain)
                }
            };
            let debt_id = debt.map_or(payment.debt_id, |debt| candidates[debt].debt_id);
            self.rows.payments.insert(payment.payment_id, PaymentRow::new(event, payment, debt_id, counted));
        }
        paid
    }
}

fn payment_links(event: &Linked, payment: &Payment) -> Vec<(u8, Uuid)> {
    let request = LinkKind::PaymentRequest.space();
    let requests = [&event.request_id, &payment.request_id].into_iter().flatten();
    [(LinkKind::PaymentId.space(), payment.payment_id)]
        .into_iter()
        .chain(requests.map(|r| (request, link_id(r))))
        .collect()
}

fn amount_of(candidate: &Candidate<'_>, sales: &Sales<'_>) -> Money {
    match (candidate.stated, candidate.sale) {
        (Some(debt), _) => debt.amount,
        (None, Some(sale)) => sales.events[sale].1.total,
        (None, None) => Money::default(),
    }
}

/// Plain if given, else dollars if there are any, else bolívares.
fn currency_of(amount: &Money) -> Currency {
    if amount.plain.is_some() {
        Currency::Plain
    } else if amount.usd.is_some_and(|usd| usd > CENT) {
        Currency::Usd
    } else {
        Currency::Bs
    }
}

fn currency(candidate: &Candidate<'_>) -> Currency {
    match (candidate.stated, &candidate.event.payload) {
        (Some(debt), _) => currency_of(&debt.amount),
        (None, Payload::Sale(sale)) => currency_of(&sale.total),
        (None, _) => Currency::Bs,
    }
}

fn in_currency(money: &Money, currency: Currency) -> Option<Decimal> {
    match currency {
        Currency::Plain => money.plain,
        Currency::Usd => money.usd,
        Currency::Bs => money.bs,
    }
}

/// What a payment counts for a debt in that currency.
fn counted(amount: &Money, debt: Currency) -> Decimal {
    let fallback = match debt {
        Currency::Plain => amount.usd.or(amount.bs),
        Currency::Usd | Currency::Bs => amount.plain,
    };
    in_currency(amount, debt).or(fallback).unwrap_or_default()
}

fn debt_row(candidate: &Candidate<'_>, sales: &Sales<'_>, paid: &Paid) -> DebtRow {
    let amount = amount_of(candidate, sales);
    let currency = currency_of(&amount);
    let total = in_currency(&amount, currency).unwrap_or_default();
    let stated = candidate.stated;
    let opening = stated
        .and_then(|debt| debt.remaining.plain.or_else(|| in_currency(&debt.remaining, currency)))
        .unwrap_or(total);
    let void = candidate.sale.and_then(|sale| sales.voided.get(&sale));
    let left = opening.saturating_sub(paid.sum);
    let (status, remaining) = if void.is_some() {
        (DebtStatus::Cancelled, Decimal::ZERO)
    } else if left <= CENT {
        (DebtStatus::Paid, Decimal::ZERO)
    } else if paid.sum > Decimal::ZERO {
        (DebtStatus::Partial, left)
    } else {
        (DebtStatus::Pending, left)
    };
    let event = candidate.event;
    let sale = candidate.sale.map(|sale| sales.events[sale].1);
    let changes = [Some(event.key.created_at), paid.last, void.map(|v| v.key.created_at)];
    DebtRow {
        customer_id: stated.map_or_else(|| sale.and_then(|s| s.customer_id), |debt| debt.customer_id),
        sale_id: sale.map(|s| s.sale_id).or_else(|| stated.and_then(|debt| debt.sale_id)),
        total_amount: Column::Amount.round(total),
        remaining_amount: Column::Amount.saturate(remaining),
        amount_bs: amount.bs.map(|d| Column::Amount.round(d)),
        amount_usd: amount.usd.map(|d| Column::Amount.round(d)),
        overpaid_amount: Column::Amount.saturate((-left).max(Decimal::ZERO)),
        status,
        currency: match currency {
            Currency::Plain => {
                stated.and_then(|d| d.currency.clone()).or_else(|| sale.and_then(|s| s.currency.clone()))
            }
            Currency::Usd => Some("USD".to_owned()),
            Currency::Bs => Some("BS".to_owned()),
        },
        derived: stated.is_none(),
        notes: stated.and_then(|debt| debt.notes.clone()),
        due_at: stated.and_then(|debt| debt.due_at),
        created_at: stated.and_then(|debt| debt.created_at).unwrap_or(event.key.created_at),
        created_by: event.actor.clone(),
        updated_at: changes.into_iter().flatten().max().unwrap_or(event.key.created_at),
        event_id: stated.map(|_| event.key.event_id.clone()),
    }
}
