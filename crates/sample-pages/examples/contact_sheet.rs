//! Lays pages of every class side by side in one PNG, one row a class, to look at after a change to the drawing:
//! `cargo run --release -p sample-pages --example contact_sheet -- sheet.png [CELL_PIXELS] [FIRST_SEED] [CLASS]`

use std::error::Error;

use image::imageops::{FilterType, overlay, resize};
use image::{Rgb, RgbImage};
use sample_pages::{CLASSES, draw_page};

const COLUMNS: u32 = 10;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize, default: u32| arguments.get(index).map_or(Ok(default), |text| text.parse());
    let path = arguments.first().ok_or("name the PNG to write")?;
    let (cell, first_seed) = (number(1, 256)?, number(2, 0)?);
    let only = arguments.get(3).and_then(|name| CLASSES.iter().position(|class| class == name));
    let rows = if only.is_some() { 5 } else { CLASSES.len() as u32 };
    let gap = 4;
    let background = Rgb([200, 60, 200]);
    let mut sheet = RgbImage::from_pixel(COLUMNS * (cell + gap), rows * (cell + gap), background);
    for row in 0..rows {
        for column in 0..COLUMNS {
            let class = only.unwrap_or(row as usize);
            let seed = first_seed + column + if only.is_some() { row * COLUMNS } else { 0 };
            let mut page = draw_page(class, u64::from(seed));
            if cell < 176 {
                // Small cells show what a network is given: the whole page, squashed.
                page = resize(&page, cell, cell, FilterType::Triangle);
            }
            overlay(&mut sheet, &page, (column * (cell + gap)).into(), (row * (cell + gap)).into());
        }
    }
    sheet.save(path)?;
    Ok(())
}
