//! Debts and payments: rules 5 and 6.

use crate::shop::Shop;
use serde_json::json;

#[tokio::test]
async fn a_stated_debt_takes_the_place_of_the_derived_one_with_what_was_paid() {
    let shop = Shop::open().await;
    shop.day(
        "a@1 sale S1 fiao=C1 usd=10 bs=365
         p@3 pay M1 debt(S1) usd=4",
        "sale S1 by a
         debt debt(S1) USD 10 left 6 partial of S1 derived
         pay M1 of debt(S1) 4 by p",
    )
    .await;
    let derived = shop.row("debts", "debt(S1)").await;
    assert_eq!((&derived["amount_bs"], &derived["customer_id"]), (&json!(365.0), &json!(shop.named("C1"))));
    shop.day(
        "n@2/node debt D1 sale=S1 usd=9",
        "sale S1 by a
         debt D1 USD 9 left 5 partial of S1 by n
         pay M1 of D1 4 by p",
    )
    .await;
    // A real till's goes before the pseudo-device's, though it is later.
    shop.day(
        "d@9 debt D2 sale=S1 usd=8
         q@10 pay M2 D1 usd=4",
        "sale S1 by a
         debt D2 USD 8 left 0 paid of S1 by d
         pay M1 of D2 4 by p
         pay M2 of D2 4 by q
         n absorbed by d",
    )
    .await;
}

#[tokio::test]
async fn a_payment_before_its_debt_has_its_row_waits_and_then_counts() {
    let shop = Shop::open().await;
    shop.day(
        "p@1 pay M1 D1 bs=30 amount=7 reference=x note=y by=u1 payment_method=zelle",
        "pay M1 of D1 7 by p\np waits for D1",
    )
    .await;
    let waiting = json!({"debt_id": shop.named("D1"), "amount": 7.0, "amount_bs": 30.0, "payment_method": "zelle",
        "reference": "x", "notes": "y", "paid_by": "u1", "paid_at": "1970-01-01T00:00:00.001+00:00", "event_id": "p"});
    assert_eq!(shop.row("debt_payments", "M1").await, waiting);
    shop.day("d@2 debt D1 bs=100", "debt D1 BS 100 left 70 partial by d\npay M1 of D1 7 by p").await;
}

#[tokio::test]
async fn a_payment_of_a_derived_debt_waits_for_its_sale() {
    let shop = Shop::open().await;
    shop.day("p@1 pay M1 debt(S1) usd=3", "pay M1 of debt(S1) 3 by p\np waits for debt(S1)").await;
    shop.day(
        "a@2 sale S1 fiao=C1 usd=3",
        "sale S1 by a
         debt debt(S1) USD 3 left 0 paid of S1 derived
         pay M1 of debt(S1) 3 by p",
    )
    .await;
}

#[tokio::test]
async fn repeated_payments_count_once_and_too_much_is_shown() {
    let shop = Shop::open().await;
    shop.day(
        "d@1 debt D1 usd=10 left=6
         p@2 pay M1 D1 usd=4 req=r",
        "debt D1 USD 10 left 2 partial by d
         pay M1 of D1 4 by p",
    )
    .await;
    shop.day(
        "q@3 pay M2 D1 usd=4 env=r
         r@4 pay M1 D1 usd=5
         s@5 pay M3 D1 usd=1.99",
        "debt D1 USD 10 left 0 paid by d
         pay M1 of D1 4 by p
         pay M3 of D1 1.99 by s
         q absorbed by p
         r absorbed by p",
    )
    .await;
    shop.day(
        "t@6 pay M4 D1 usd=5",
        "debt D1 USD 10 left 0 paid over 4.99 by d
         pay M1 of D1 4 by p
         pay M3 of D1 1.99 by s
         pay M4 of D1 5 by t
         q absorbed by p
         r absorbed by p",
    )
    .await;
    // A smaller payment of the same request comes late and takes its place.
    shop.day(
        "o@0 pay M5 D1 usd=1 req=r",
        "debt D1 USD 10 left 0 paid over 1.99 by d
         pay M5 of D1 1 by o
         pay M3 of D1 1.99 by s
         pay M4 of D1 5 by t
         p absorbed by o
         q absorbed by o
         r absorbed by o",
    )
    .await;
}

#[tokio::test]
async fn a_voided_sale_cancels_its_debt_and_keeps_the_payments() {
    let shop = Shop::open().await;
    shop.day(
        "a@1 sale S1 fiao=C1 usd=10
         p@2 pay M1 debt(S1) usd=4
         v@3 void S1
         d@4 debt D1 sale=S1 usd=10 status=paid",
        "sale S1 by a void v
         debt D1 USD 10 left 0 cancelled of S1 by d
         pay M1 of D1 4 by p",
    )
    .await;
    let at = "1970-01-01T00:00:00.004+00:00";
    assert_eq!(shop.row("debts", "D1").await["updated_at"], at);
}

#[tokio::test]
async fn a_debt_without_a_sale_yet_names_it_and_then_points_to_the_standing_one() {
    let shop = Shop::open().await;
    shop.day(
        "d@5 debt D1 sale=S2 usd=9 customer=C1 status=paid note=n due_at=1970-01-02T00:00:00Z",
        "debt D1 USD 9 left 9 pending of S2 by d",
    )
    .await;
    assert_eq!(shop.row("debts", "D1").await["customer_id"], json!(shop.named("C1")));
    shop.day("e@6 debt D2 sale=S2 usd=8", "debt D1 USD 9 left 9 pending of S2 by d\ne absorbed by d").await;
    shop.day(
        "a@1 sale S1 fiao=C1 usd=9 req=r
         b@2 sale S2 fiao=C1 usd=9 req=r",
        "sale S1 by a
         b absorbed by a
         debt D1 USD 9 left 9 pending of S1 by d
         e absorbed by d",
    )
    .await;
}

#[tokio::test]
async fn a_debt_is_counted_in_its_own_currency() {
    let shop = Shop::open().await;
    shop.day(
        "d@1 debt D1 amount=10 usd=2 bs=70
         e@1 debt D2 usd=0.01 bs=70
         f@1 debt D3 usd=2 bs=70
         p@2 pay M1 D1 amount=3 usd=1 bs=30
         q@2 pay M2 D2 amount=3 usd=1 bs=30
         r@2 pay M3 D3 amount=3 usd=1 bs=30
         s@3 pay M4 D3 bs=30",
        "debt D1 - 10 left 7 partial by d
         debt D2 BS 70 left 40 partial by e
         debt D3 USD 2 left 1 partial by f
         pay M1 of D1 3 by p
         pay M2 of D2 3 by q
         pay M3 of D3 3 by r
         pay M4 of D3 0 by s",
    )
    .await;
}
