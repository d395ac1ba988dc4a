//! Stock: rule 7. Every check compares the figures with the sums of the movements.

use crate::shop::Shop;

#[tokio::test]
async fn a_figure_exists_iff_a_movement_of_it_stands() {
    let shop = Shop::open().await;
    shop.day("a@5 receive K1 P1x3", "move P1 3 received by a\nstock P1 3").await;
    // Smaller, of the same movement, and of another product.
    shop.day("b@2 adjust K1 P2x-1", "move P2 -1 adjusted by b\nstock P2 -1\na absorbed by b").await;
    let zero = "move P2 -1 adjusted by b
                move P2 1 delta by c
                stock P2 0
                a absorbed by b";
    shop.day("c@6 delta K2 P2x1", zero).await;
}

#[tokio::test]
async fn a_smaller_event_of_a_movement_changes_the_figure_by_the_difference() {
    let shop = Shop::open().await;
    shop.day(
        "a@5 receive K1 P1x3
         b@5 receive K2 P1x10",
        "move P1 3 received by a\nmove P1 10 received by b\nstock P1 13",
    )
    .await;
    let smaller = "move P1 5 received by c\nmove P1 10 received by b\nstock P1 15\na absorbed by c";
    shop.day("c@1 receive K1 P1x5", smaller).await;
}

#[tokio::test]
async fn items_of_a_movement_stand_each_by_its_place() {
    let shop = Shop::open().await;
    shop.day(
        "a@5 receive K1 P1x1 P2x2 P3x3",
        "move P1 1 received by a\nmove P2 2 received by a\nmove P3 3 received by a\nstock P1 1\nstock P2 2\nstock P3 3",
    )
    .await;
    // Smaller but shorter: the third item still stands, so the event is not absorbed.
    shop.day(
        "b@4 receive K1 P1x5 P1x6",
        "move P1 5 received by b\nmove P1 6 received by b\nmove P3 3 received by a\nstock P1 11\nstock P3 3",
    )
    .await;
}

#[tokio::test]
async fn variants_and_warehouses_are_kept_apart_and_stock_may_be_negative() {
    let shop = Shop::open().await;
    shop.day(
        "a@1 receive - P1:V1x3
         b@1 receive - P1x3 at=W1
         c@2 sale S1 usd=1 P1:V1x2 P1~0.5 P1:V1x2",
        "move P1:V1 3 received by a
         move P1@W1 3 received by b
         sale S1 by c
         item S1.1 P1 2
         item S1.2 P1 0.5
         item S1.3 P1 2
         move P1:V1 -4 sale by c
         move P1 -0.5 sale by c
         stock P1:V1 -1
         stock P1@W1 3
         stock P1 -0.5",
    )
    .await;
}

#[tokio::test]
async fn an_event_of_stock_without_items_moves_nothing_and_is_no_gap() {
    let shop = Shop::open().await;
    let text = r#"{"event_id":"a","type":"StockReceived","payload":{"movement_id":"","items":[]}}"#;
    shop.bring(vec![crate::story::Told::read(shop.id, "till", text)]).await;
    shop.project().await;
    shop.check("").await;
    assert_eq!(shop.status("a").await, "processed");
}
