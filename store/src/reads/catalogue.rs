//! Products and customers: what a store sells, and to whom. Both lists are by id.

use super::{Listed, Page, PageRequest, millis};
use crate::{Error, Store};
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::PgConnection;
use sqlx::types::Json;
use utoipa::ToSchema;
use uuid::Uuid;

/// A product.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[expect(missing_docs, reason = "the columns of `products`")]
pub struct ProductRow {
    pub store_id: Uuid,
    pub id: Uuid,
    pub name: Option<String>,
    pub category: Option<String>,
    pub sku: Option<String>,
    pub barcode: Option<String>,
    pub price: Option<Decimal>,
    pub price_bs: Option<Decimal>,
    pub price_usd: Option<Decimal>,
    pub cost_bs: Option<Decimal>,
    pub cost_usd: Option<Decimal>,
    pub track_inventory: Option<bool>,
    pub is_active: Option<bool>,
    pub low_stock_threshold: Option<Decimal>,
    /// The fields that have no column, as they were sent.
    #[schema(value_type = Object)]
    pub attributes: Json<Box<RawValue>>,
    #[serde(serialize_with = "millis")]
    pub created_at: DateTime<Utc>,
    #[serde(serialize_with = "millis")]
    pub updated_at: DateTime<Utc>,
}

impl Listed for ProductRow {
    type Key = Uuid;

    fn key(&self) -> Uuid {
        self.id
    }
}

/// A customer.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[expect(missing_docs, reason = "the columns of `customers`")]
pub struct CustomerRow {
    pub store_id: Uuid,
    pub id: Uuid,
    pub name: Option<String>,
    pub document_id: Option<String>,
    pub phone: Option<String>,
    pub email: Option<String>,
    pub address: Option<String>,
    pub credit_limit: Option<Decimal>,
    pub notes: Option<String>,
    #[serde(serialize_with = "millis")]
    pub created_at: DateTime<Utc>,
    #[serde(serialize_with = "millis")]
    pub updated_at: DateTime<Utc>,
}

impl Listed for CustomerRow {
    type Key = Uuid;

    fn key(&self) -> Uuid {
        self.id
    }
}

/// Which products are wanted; `None`: all.
#[derive(Debug, Clone, Default)]
pub struct ProductFilter {
    /// With this text in name, SKU or barcode, in either case.
    pub text: Option<String>,
    /// On sale or not; a product is, until an event says otherwise.
    pub active: Option<bool>,
}

impl Store {
    /// A page of products, by id.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.products.list", level = "debug", skip_all)]
    pub async fn read_products(
        &self,
        store_id: Uuid,
        filter: &ProductFilter,
        page: PageRequest<Uuid>,
    ) -> Result<Page<ProductRow>, Error> {
        products(&mut *self.pool.acquire().await?, store_id, filter, page).await
    }

    /// A page of customers, by id. `text`: in name, document id, phone or e-mail address, in either case.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.customers.list", level = "debug", skip_all)]
    pub async fn read_customers(
        &self,
        store_id: Uuid,
        text: Option<&str>,
        page: PageRequest<Uuid>,
    ) -> Result<Page<CustomerRow>, Error> {
        customers(&mut *self.pool.acquire().await?, store_id, text, page).await
    }
}

/// As [`Store::read_products`].
pub(crate) async fn products(
    connection: &mut PgConnection,
    store_id: Uuid,
    filter: &ProductFilter,
    page: PageRequest<Uuid>,
) -> Result<Page<ProductRow>, Error> {
    let rows = sqlx::query_as!(
        ProductRow,
        r#"SELECT store_id, id, name, category, sku, barcode, price, price_bs, price_usd, cost_bs, cost_usd,
               track_inventory, is_active, low_stock_threshold,
               attributes AS "attributes: Json<Box<RawValue>>", created_at, updated_at
           FROM products
           WHERE store_id = $1 AND ($2::uuid IS NULL OR id > $2)
             AND ($3::text IS NULL
                  -- Not LIKE: a % in the text is a per cent sign.
                  OR strpos(lower(concat_ws(E'\n', name, sku, barcode)), lower($3)) > 0)
             AND ($4::boolean IS NULL OR coalesce(is_active, true) = $4)
           ORDER BY id LIMIT $5"#,
        store_id,
        page.after,
        filter.text.as_deref(),
        filter.active,
        page.rows()
    )
    .fetch_all(connection)
    .await?;
    Ok(page.page(rows))
}

/// As [`Store::read_customers`].
pub(crate) async fn customers(
    connection: &mut PgConnection,
    store_id: Uuid,
    text: Option<&str>,
    page: PageRequest<Uuid>,
) -> Result<Page<CustomerRow>, Error> {
    let rows = sqlx::query_as!(
        CustomerRow,
        r#"SELECT store_id, id, name, document_id, phone, email, address, credit_limit, notes, created_at,
               updated_at
           FROM customers
           WHERE store_id = $1 AND ($2::uuid IS NULL OR id > $2)
             AND ($3::text IS NULL
                  OR strpos(lower(concat_ws(E'\n', name, document_id, phone, email)), lower($3)) > 0)
           ORDER BY id LIMIT $4"#,
        store_id,
        page.after,
        text,
        page.rows()
    )
    .fetch_all(connection)
    .await?;
    Ok(page.page(rows))
}
