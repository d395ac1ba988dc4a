//! Short histories and the rows that they make, both as text.
//!
//! A history has one event a line: `name@time/device verb id …`; the device may be left out, `/node` is v1's
//! pseudo-device. Capitalised words are ids, `debt(S1)` is the debt that the sale S1 makes by itself.

#[path = "standing_story.rs"]
mod story;

#[path = "standing_order_tests.rs"]
mod order;

use story::check;

macro_rules! histories {
    ($($name:ident: $events:expr => $rows:expr;)*) => {
        $(#[test] fn $name() { check($events, $rows); })*
    };
}

histories! {
    a_cash_sale_makes_no_debt:
        "a@1 sale S1 usd=10 P1x2" =>
        "sale S1 by a
         move P1 -2 sale by a";

    a_sale_on_credit_makes_its_debt_by_itself:
        "a@1 sale S1 fiao=C1 usd=10 bs=365" =>
        "sale S1 by a
         debt debt(S1) USD 10 left 10 pending of S1 derived";

    a_sale_on_credit_without_a_customer_makes_no_debt:
        "a@1 sale S1 fiao usd=10" =>
        "sale S1 by a";

    a_debt_of_a_real_device_takes_the_derived_ones_place:
        "a@1 sale S1 fiao=C1 usd=10
         d@9 debt D1 sale=S1 usd=9" =>
        "sale S1 by a
         debt D1 USD 9 left 9 pending of S1 by d";

    a_debt_of_the_pseudo_device_takes_the_derived_ones_place:
        "a@1 sale S1 fiao=C1 usd=10
         d@9/node debt D1 sale=S1 usd=9" =>
        "sale S1 by a
         debt D1 USD 9 left 9 pending of S1 by d";

    a_debt_of_a_real_device_goes_before_an_earlier_one_of_the_pseudo_device:
        "a@1 sale S1 fiao=C1 usd=10
         n@2/node debt D1 sale=S1 usd=10
         d@9 debt D2 sale=S1 usd=9" =>
        "sale S1 by a
         debt D2 USD 9 left 9 pending of S1 by d
         n absorbed by d";

    of_two_debts_of_real_devices_the_smaller_stands:
        "d@2/x debt D1 usd=5
         e@2/b debt D1 usd=6
         f@3 debt D2 usd=7" =>
        "debt D1 USD 6 left 6 pending by e
         debt D2 USD 7 left 7 pending by f
         d absorbed by e";

    debts_of_a_sale_that_nobody_made_are_linked_by_its_id:
        "d@1 debt D1 sale=S1 usd=5
         e@2 debt D2 sale=S1 usd=6" =>
        "debt D1 USD 5 left 5 pending of S1 by d
         e absorbed by d";

    a_debt_that_names_an_absorbed_sale_is_that_of_the_standing_one:
        "a@1 sale S1 fiao=C1 usd=10 req=r
         b@2 sale S2 fiao=C1 usd=10 req=r
         d@3 debt D1 sale=S2 usd=10" =>
        "sale S1 by a
         debt D1 USD 10 left 10 pending of S1 by d
         b absorbed by a";

    a_debt_linked_by_its_id_to_one_that_names_the_sale_is_absorbed_with_it:
        "a@1 sale S1 fiao=C1 usd=10
         d@2 debt D1 usd=10
         n@3/node debt D1 sale=S1 usd=10" =>
        "sale S1 by a
         debt D1 USD 10 left 10 pending by d
         n absorbed by d";

    sales_are_linked_by_their_id:
        "a@2 sale S1 usd=1 P1x1
         b@1 sale S1 usd=2 P2x1" =>
        "sale S1 by b
         move P2 -1 sale by b
         a absorbed by b";

    sales_are_linked_by_request_ids_of_payload_and_envelope:
        "a@1 sale S1 usd=1 req=r
         b@2 sale S2 usd=1 env=r
         c@3 sale S3 usd=1 env=q req=r" =>
        "sale S1 by a
         b absorbed by a
         c absorbed by a";

    a_request_id_is_no_sale_id:
        "a@1 sale S1 usd=1 req=S2
         b@2 sale S2 usd=1" =>
        "sale S1 by a
         sale S2 by b";

    a_ledger_entry_lends_its_sale_the_request_id:
        "a@1 sale S1 usd=1 req=r
         b@2 sale S2 usd=1
         l@3 entry L1 sale sale=S2 sreq=r" =>
        "sale S1 by a
         b absorbed by a
         l absorbed by a";

    a_ledger_entry_without_a_sale_id_lends_it_to_the_sale_of_its_own_id:
        "a@1 sale S1 usd=1 req=r
         b@2 sale S2 usd=1
         l@0 entry S2 sale req=r" =>
        "sale S1 by a
         b absorbed by a
         l absorbed by a";

    an_absorbed_ledger_entry_lends_its_request_id_too:
        "a@1 sale S1 usd=1 req=r
         b@2 sale S2 usd=1
         k@3 entry L1 sale sale=S1
         l@4 entry L1 sale sale=S2 sreq=r" =>
        "sale S1 by a
         b absorbed by a
         entry L1 by k
         l absorbed by k";

    an_entry_of_another_type_lends_nothing:
        "a@1 sale S1 usd=1 req=r
         b@2 sale S2 usd=1
         l@3 entry L1 income sale=S2 sreq=r" =>
        "sale S1 by a
         sale S2 by b
         entry L1 by l";

    a_chain_of_links_stands_for_its_smallest:
        "a@1 sale S1 usd=1 req=r
         b@2 sale S2 usd=1 req=r env=q
         c@3 sale S3 usd=1 req=q" =>
        "sale S1 by a
         b absorbed by a
         c absorbed by a";

    what_is_linked_only_to_a_greater_absorbed_one_stands:
        "a@1 sale S1 usd=1 req=r
         c@2 sale S3 usd=1 req=q
         b@3 sale S2 usd=1 req=r env=q" =>
        "sale S1 by a
         sale S3 by c
         b absorbed by a";

    a_void_of_an_absorbed_sales_id_voids_the_standing_one:
        "a@1 sale S1 usd=1 req=r P1x2
         b@2 sale S2 usd=1 req=r P1x2
         v@3 void S2" =>
        "sale S1 by a void v
         move P1 -2 sale by a
         move P1 2 void by v
         b absorbed by a";

    a_void_before_its_sale_waits:
        "v@1 void S1" =>
        "v waits for S1";

    a_void_of_an_earlier_time_than_its_sale_applies:
        "v@1 void S1
         a@9 sale S1 usd=1 P1x1" =>
        "sale S1 by a void v
         move P1 -1 sale by a
         move P1 1 void by v";

    the_smallest_void_counts_and_the_movements_are_reversed_once:
        "a@1 sale S1 usd=1 req=r P1x2
         b@2 sale S2 usd=1 req=r
         w@4 void S1
         v@3 void S2
         x@5/node void S1" =>
        "sale S1 by a void v
         move P1 -2 sale by a
         move P1 2 void by v
         b absorbed by a
         w absorbed by v
         x absorbed by v";

    two_lines_of_one_product_make_one_movement:
        "a@1 sale S1 usd=1 P1x2 P2x1 P1x0.5" =>
        "sale S1 by a
         move P1 -2.5 sale by a
         move P2 -1 sale by a";

    a_weighed_product_moves_its_weight:
        "a@1 sale S1 usd=1 P1~0.755 P1~0.2455" =>
        "sale S1 by a
         move P1 -1.001 sale by a";

    a_sale_moves_its_warehouses_stock_a_variant_apart:
        "a@1 sale S1 usd=1 at=W1 P1x1 P1:V1x2 P1:V1x3" =>
        "sale S1 by a
         move P1@W1 -1 sale by a
         move P1:V1@W1 -5 sale by a";

    an_absurd_sum_is_held_at_its_columns_bounds:
        "a@1 sale S1 usd=1 P1x999999999999999 P1x999999999999999
         d@1 debt D1 usd=1
         p@2 pay M1 D1 usd=9999999999999999
         q@3 pay M2 D1 usd=9999999999999999" =>
        "sale S1 by a
         move P1 -999999999999999.999 sale by a
         debt D1 USD 1 left 0 paid over 9999999999999999.99 by d
         pay M1 of D1 9999999999999999 by p
         pay M2 of D1 9999999999999999 by q";

    a_payment_counts_in_the_debts_currency:
        "d@1 debt D1 usd=10 bs=365
         e@1 debt D2 bs=365 usd=0.01
         f@1 debt D3 amount=50
         p@2 pay M1 D1 usd=4 bs=146
         q@2 pay M2 D2 usd=4 bs=146
         r@2 pay M3 D3 usd=4 bs=146
         s@2 pay M4 D3 amount=6 usd=4 bs=146
         t@2 pay M5 D3 bs=5" =>
        "debt D1 USD 10 left 6 partial by d
         debt D2 BS 365 left 219 partial by e
         debt D3 - 50 left 35 partial by f
         pay M1 of D1 4 by p
         pay M2 of D2 146 by q
         pay M3 of D3 4 by r
         pay M4 of D3 6 by s
         pay M5 of D3 5 by t";

    a_payment_in_another_currency_counts_its_plain_amount_or_nothing:
        "d@1 debt D1 usd=10
         e@1 debt D2 bs=10
         p@2 pay M1 D1 bs=146
         q@2 pay M2 D1 amount=3 bs=100
         r@2 pay M3 D2 usd=4" =>
        "debt D1 USD 10 left 7 partial by d
         debt D2 BS 10 left 10 pending by e
         pay M1 of D1 0 by p
         pay M2 of D1 3 by q
         pay M3 of D2 0 by r";

    too_much_paid_is_kept:
        "d@1 debt D1 usd=10
         p@2 pay M1 D1 usd=8
         q@3 pay M2 D1 usd=5.5" =>
        "debt D1 USD 10 left 0 paid over 3.5 by d
         pay M1 of D1 8 by p
         pay M2 of D1 5.5 by q";

    a_cent_left_is_paid_and_two_are_not:
        "d@1 debt D1 usd=10
         e@1 debt D2 usd=10
         p@2 pay M1 D1 usd=9.99
         q@2 pay M2 D2 usd=9.98" =>
        "debt D1 USD 10 left 0 paid by d
         debt D2 USD 10 left 0.02 partial by e
         pay M1 of D1 9.99 by p
         pay M2 of D2 9.98 by q";

    unrounded_amounts_are_added_before_they_are_rounded:
        "d@1 debt D1 usd=1.014
         p@2 pay M1 D1 usd=0.334
         q@3 pay M2 D1 usd=0.334" =>
        "debt D1 USD 1.01 left 0.35 partial by d
         pay M1 of D1 0.33 by p
         pay M2 of D1 0.33 by q";

    a_debt_opens_with_what_remained_of_it:
        "d@1 debt D1 usd=10 left=4
         p@2 pay M1 D1 usd=1
         e@1 debt D2 usd=10 left=0" =>
        "debt D1 USD 10 left 3 partial by d
         debt D2 USD 10 left 0 paid by e
         pay M1 of D1 1 by p";

    a_payment_before_its_debt_waits_but_has_its_row:
        "p@1 pay M1 D1 usd=4" =>
        "pay M1 of D1 4 by p
         p waits for D1";

    a_payment_of_an_earlier_time_than_its_debt_counts:
        "p@1 pay M1 D1 usd=4
         d@9 debt D1 usd=4" =>
        "debt D1 USD 4 left 0 paid by d
         pay M1 of D1 4 by p";

    payments_linked_by_a_request_id_count_once:
        "d@1 debt D1 usd=10
         p@2 pay M1 D1 usd=4 req=r
         q@3 pay M2 D1 usd=4 env=r
         s@4 pay M1 D1 usd=5" =>
        "debt D1 USD 10 left 6 partial by d
         pay M1 of D1 4 by p
         q absorbed by p
         s absorbed by p";

    a_payments_request_id_is_no_sales_request_id:
        "a@1 sale S1 fiao=C1 usd=10 req=r
         p@2 pay M1 debt(S1) usd=4 req=r" =>
        "sale S1 by a
         debt debt(S1) USD 10 left 6 partial of S1 derived
         pay M1 of debt(S1) 4 by p";

    a_payment_of_the_derived_debt_is_that_of_the_stated_one:
        "a@1 sale S1 fiao=C1 usd=10
         p@2 pay M1 debt(S1) usd=4
         d@9/node debt D1 sale=S1 usd=10" =>
        "sale S1 by a
         debt D1 USD 10 left 6 partial of S1 by d
         pay M1 of D1 4 by p";

    payments_of_absorbed_debts_are_those_of_the_standing_one:
        "n@1/node debt D1 sale=S1 usd=10
         d@2 debt D2 sale=S1 usd=10
         p@3 pay M1 D1 usd=4
         q@4 pay M2 D2 usd=4" =>
        "debt D2 USD 10 left 2 partial of S1 by d
         pay M1 of D2 4 by p
         pay M2 of D2 4 by q
         n absorbed by d";

    a_voided_sales_debt_is_cancelled_and_its_payments_are_kept:
        "a@1 sale S1 fiao=C1 usd=10
         p@2 pay M1 debt(S1) usd=4
         v@3 void S1" =>
        "sale S1 by a void v
         debt debt(S1) USD 10 left 0 cancelled of S1 derived
         pay M1 of debt(S1) 4 by p";

    a_ledger_entry_of_an_absorbed_sale_is_absorbed:
        "a@1 sale S1 usd=1 req=r
         b@2 sale S2 usd=1 req=r
         k@3 entry L1 sale sale=S1
         l@4 entry L2 sale sale=S2
         m@5 entry L2 income" =>
        "sale S1 by a
         b absorbed by a
         entry L1 by k
         l absorbed by a
         m absorbed by a";

    ledger_entries_are_linked_by_their_id_alone:
        "k@2 entry L1 income req=r
         l@1 entry L1 expense
         m@3 entry L2 income req=r" =>
        "entry L1 by l
         entry L2 by m
         k absorbed by l";

    of_a_movement_id_met_twice_the_smaller_moves:
        "j@2 stock K1 P1x5
         k@1/node stock K1 P2x3" =>
        "move P2 3 received by k
         j absorbed by k";

    movements_without_an_id_are_each_their_own:
        "j@1 stock - P1x5
         k@1 stock - P1x5" =>
        "move P1 5 received by j
         move P1 5 received by k";

    items_have_a_key_each:
        "j@1 stock K1 P1x1 P1x2
         k@2 stock K1 P1x1 P1x2 P2x4
         l@3 stock K1 P1x1 P1x2
         m@4 stock K1 P2x9" =>
        "move P1 1 received by j
         move P1 2 received by j
         move P2 4 received by k
         move P2 9 received by m
         l absorbed by j";

    before_the_smaller_sale_came:
        "b@5 sale S2 fiao=C1 usd=10 req=r P1x2
         p@6 pay M1 debt(S2) usd=4
         l@7 entry L1 sale sale=S2
         v@8 void S2" =>
        "sale S2 by b void v
         move P1 -2 sale by b
         move P1 2 void by v
         debt debt(S2) USD 10 left 0 cancelled of S2 derived
         pay M1 of debt(S2) 4 by p
         entry L1 by l";

    the_late_smaller_sale_flips_all_that_hangs_on_it:
        "b@5 sale S2 fiao=C1 usd=10 req=r P1x2
         p@6 pay M1 debt(S2) usd=4
         l@7 entry L1 sale sale=S2
         v@8 void S2
         a@1 sale S1 fiao=C1 usd=12 env=r P1x3" =>
        "sale S1 by a void v
         move P1 -3 sale by a
         move P1 3 void by v
         debt debt(S1) USD 12 left 0 cancelled of S1 derived
         pay M1 of debt(S2) 4 by p
         p waits for debt(S2)
         b absorbed by a
         l absorbed by a";
}
