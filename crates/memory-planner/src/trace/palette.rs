//! The colours of roles.

use super::Role;

/// Told apart with any colour vision, by lightness where hue does not help.
pub(super) fn colour(role: Role) -> &'static str {
    match role {
        Role::Weight => "#1f4e8c",
        Role::Buffer => "#8a96a3",
        Role::Ema => "#4f9bd0",
        Role::OptimizerState => "#b3d4ec",
        Role::Gradient => "#1b7f3b",
        Role::Input => "#20252c",
        Role::SavedActivation => "#e8853a",
        Role::Transient => "#f6d55c",
        Role::Workspace => "#8c2d62",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Matrix = [[f64; 3]; 3];

    /// What remains of linear RGB without one kind of cone: Machado, Oliveira and Fernandes 2009, severity 1.
    const VISIONS: [(&str, Matrix); 4] = [
        ("all cones", [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
        (
            "protanopia",
            [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        ),
        (
            "deuteranopia",
            [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        ),
        (
            "tritanopia",
            [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
        ),
    ];

    /// Linear sRGB to XYZ, each row divided by the white point D65.
    const TO_XYZ: Matrix = [[0.4339, 0.3762, 0.1899], [0.2126, 0.7152, 0.0722], [0.0177, 0.1095, 0.8728]];

    fn linear_rgb(colour: &str) -> [f64; 3] {
        [1, 3, 5].map(|start| {
            let value = f64::from(u8::from_str_radix(&colour[start..start + 2], 16).unwrap()) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        })
    }

    fn product(matrix: &Matrix, vector: [f64; 3]) -> [f64; 3] {
        matrix.map(|row| (0..3).map(|axis| row[axis] * vector[axis]).sum::<f64>().clamp(0.0, 1.0))
    }

    /// CIE 1976 L*a*b*.
    fn lab(rgb: [f64; 3]) -> [f64; 3] {
        let [x, y, z] =
            product(&TO_XYZ, rgb).map(|part| if part > 0.008856 { part.cbrt() } else { 7.787 * part + 16.0 / 116.0 });
        [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
    }

    #[test]
    fn any_two_roles_stay_apart_for_every_colour_vision() {
        for (vision, matrix) in &VISIONS {
            let seen = Role::ALL.map(|role| lab(product(matrix, linear_rgb(colour(role)))));
            for (first, left) in seen.iter().enumerate() {
                for (second, right) in seen.iter().enumerate().skip(first + 1) {
                    let distance = (0..3).map(|axis| (left[axis] - right[axis]).powi(2)).sum::<f64>().sqrt();
                    // A difference of about 2 is just seen side by side; legends are read from afar.
                    assert!(distance > 15.0, "{vision}: {:?} {:?} {distance}", Role::ALL[first], Role::ALL[second]);
                }
            }
        }
    }
}
