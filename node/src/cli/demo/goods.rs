//! What the demo's shop sells, to whom, and at which tills. Names alone; never prices that move or stock.

/// The shop.
pub(super) const SHOP: &str = "Bodega La Esquina";
/// Its tills.
pub(super) const TILLS: [&str; 3] = ["Caja 1", "Caja 2", "Caja 3"];
/// Bolívares a dollar.
pub(super) const RATE: f64 = 36.53;

/// How a product is sold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sold {
    /// By the piece.
    Piece,
    /// By the kilogram.
    Weight,
    /// Made in the kitchen when it is ordered: nobody counts its stock.
    Kitchen,
}

/// A product.
#[derive(Debug)]
pub(super) struct Good {
    pub(super) name: &'static str,
    pub(super) category: &'static str,
    /// Price in the morning, dollars.
    pub(super) usd: f64,
    /// Pieces or kilograms that come in the morning.
    pub(super) received: i64,
    /// How often it is bought beside the others.
    pub(super) weight: u32,
    pub(super) sold: Sold,
}

const fn good(name: &'static str, category: &'static str, usd: f64, received: i64, weight: u32) -> Good {
    Good { name, category, usd, received, weight, sold: Sold::Piece }
}

const fn weighed(name: &'static str, usd: f64, received: i64, weight: u32) -> Good {
    Good { name, category: "Charcutería", usd, received, weight, sold: Sold::Weight }
}

const fn prepared(name: &'static str, usd: f64, weight: u32) -> Good {
    Good { name, category: "Cocina", usd, received: 0, weight, sold: Sold::Kitchen }
}

/// What both sides of the outage sell, more than there is: its place in [`GOODS`].
pub(super) const OVERSOLD: usize = 12;
/// Whose prices go up at noon.
pub(super) const REPRICED: [usize; 2] = [1, 4];
/// Whose price both sides of the outage set, to these dollars on the other side, and to these by the person who decides.
pub(super) const DISPUTED: usize = REPRICED[0];
pub(super) const PRICE_ELSEWHERE: f64 = 3.99;
pub(super) const PRICE_DECIDED: f64 = 4.3;
/// Whose telephone both sides note down: their place in [`CUSTOMERS`], and the numbers, the later one last.
pub(super) const MOVED: usize = 2;
pub(super) const NUMBERS: [&str; 2] = ["0412-5550203", "0424-5550303"];
/// What a second delivery brings.
pub(super) const DELIVERED: [usize; 3] = [0, 6, 11];

/// All products.
pub(super) const GOODS: [Good; 25] = [
    good("Harina PAN 1 kg", "Víveres", 1.15, 110, 12),
    good("Café molido 500 g", "Víveres", 4.2, 60, 6),
    good("Azúcar 1 kg", "Víveres", 1.3, 120, 7),
    good("Arroz 1 kg", "Víveres", 1.25, 110, 8),
    good("Aceite 1 L", "Víveres", 3.1, 70, 5),
    good("Pasta larga 1 kg", "Víveres", 1.6, 90, 6),
    good("Leche en polvo 400 g", "Víveres", 5.4, 45, 4),
    good("Atún en lata", "Víveres", 1.85, 80, 5),
    good("Caraotas negras 500 g", "Víveres", 1.4, 60, 4),
    good("Mayonesa 445 g", "Víveres", 2.95, 45, 3),
    good("Huevos, cartón de 30", "Víveres", 5.9, 80, 5),
    good("Agua 1,5 L", "Bebidas", 0.8, 120, 8),
    good("Refresco 2 L", "Bebidas", 1.95, 60, 7),
    good("Malta 355 ml", "Bebidas", 0.75, 140, 8),
    good("Jugo de durazno 1 L", "Bebidas", 1.7, 48, 3),
    good("Galletas María", "Golosinas", 0.95, 80, 5),
    good("Chocolate Savoy", "Golosinas", 1.1, 72, 5),
    good("Jabón de panela", "Limpieza", 0.65, 60, 3),
    good("Cloro 1 L", "Limpieza", 1.05, 36, 2),
    good("Papel higiénico x4", "Limpieza", 2.4, 60, 4),
    weighed("Queso blanco (kg)", 5.8, 60, 9),
    weighed("Jamón de pierna (kg)", 8.9, 40, 5),
    weighed("Tomate (kg)", 1.9, 45, 6),
    prepared("Empanada de carne", 1.0, 9),
    prepared("Arepa reina pepiada", 3.5, 5),
];

/// A customer who may buy on credit.
#[derive(Debug)]
pub(super) struct Customer {
    pub(super) name: &'static str,
    pub(super) document: &'static str,
    pub(super) phone: &'static str,
}

const fn customer(name: &'static str, document: &'static str, phone: &'static str) -> Customer {
    Customer { name, document, phone }
}

/// All customers. The first one owes something from before.
pub(super) const CUSTOMERS: [Customer; 8] = [
    customer("María Fernanda Rojas", "V-12345678", "0414-5550101"),
    customer("José Gregorio Pérez", "V-9876543", "0424-5550102"),
    customer("Yulimar Contreras", "V-17222333", "0412-5550103"),
    customer("Luis Alberto Guédez", "V-8111222", "0416-5550104"),
    customer("Carmen Elena Blanco", "V-6543210", "0414-5550105"),
    customer("Taller Los Hermanos", "J-30555666-1", "0212-5550106"),
    customer("Ángel Ñáñez", "V-20333444", "0426-5550107"),
    customer("Señora Ana (vecina)", "V-4222111", "0412-5550108"),
];
