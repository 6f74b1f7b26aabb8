//! The transform of training: another view of the same image in each epoch.

use super::erase::{EraseFill, Patch};
use super::last_steps::{Erased, LastSteps, Symmetry};
use super::noise::DocumentNoise;
use super::rand_augment::RandAugment;
use super::resample::{Crop, resample};
use super::{
    ResizeFilter, ResizeMode, Transform, TransformError, bar_color, check, color, geometry, reduction, size_of,
    with_channels,
};
use crate::random::{Random, Stream};
use crate::{Channels, RasterImage, SampleKey};

/// A random crop, turned, tinted, worn and partly hidden. [`TrainTransform::new`] leaves everything out but the resizing.
///
/// Steps follow the order of the fields, but `erase` comes last. Each draws its random numbers whether or not it is switched
/// on, or from a stream of its own, so that changing one setting leaves the choices of the others as they were.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainTransform {
    /// Height and width of the result, in pixels.
    pub image_size: usize,
    /// Grey or RGB.
    pub channels: Channels,
    /// The mode of evaluation. Crops are taken from what it shows: from the stretched image, from the image with bars,
    /// or, for a centre crop, from the whole image with true proportions.
    pub resize: ResizeMode,
    /// How pixels are weighed where a crop is resized.
    pub filter: ResizeFilter,
    /// Share of the area that a crop keeps, from and to.
    pub scale: (f32, f32),
    /// Width to height of a crop before it is stretched to a square, from and to; 1 keeps proportions as in evaluation.
    pub ratio: (f32, f32),
    /// Probability of mirroring left and right.
    pub horizontal_flip: f32,
    /// Probability of mirroring top and bottom.
    pub vertical_flip: f32,
    /// Turns by 0, 90, 180 or 270 degrees, all as likely.
    pub quarter_turns: bool,
    /// Turns by up to this angle either way; the corners repeat the pixels of the edge.
    pub rotation_degrees: f32,
    /// Brightness is multiplied by 1 - b to 1 + b.
    pub brightness: f32,
    /// Distance from the mean grey is multiplied by 1 - c to 1 + c.
    pub contrast: f32,
    /// Distance from each pixel's grey is multiplied by 1 - s to 1 + s.
    pub saturation: f32,
    /// Colours move around the colour circle by up to this share of it either way.
    pub hue: f32,
    /// Some operations of a fixed list, drawn for each image.
    pub rand_augment: Option<RandAugment>,
    /// What lamp, lens, sensor and file do to a page.
    pub noise: DocumentNoise,
    /// Probability of hiding a rectangle.
    pub erase: f32,
    /// Share of the area that is hidden, from and to.
    pub erase_area: (f32, f32),
    /// Width to height of what is hidden, from and to.
    pub erase_ratio: (f32, f32),
    /// What hides it.
    pub erase_fill: EraseFill,
}

impl TrainTransform {
    /// The whole image at this size, bilinear: the augmentations are switched on by setting fields.
    #[must_use]
    pub fn new(image_size: usize, channels: Channels, resize: ResizeMode) -> Self {
        Self {
            image_size,
            channels,
            resize,
            filter: ResizeFilter::Bilinear,
            scale: (1.0, 1.0),
            ratio: (1.0, 1.0),
            horizontal_flip: 0.0,
            vertical_flip: 0.0,
            quarter_turns: false,
            rotation_degrees: 0.0,
            brightness: 0.0,
            contrast: 0.0,
            saturation: 0.0,
            hue: 0.0,
            rand_augment: None,
            noise: DocumentNoise::default(),
            erase: 0.0,
            erase_area: ERASED_AREA,
            erase_ratio: ERASED_RATIO,
            erase_fill: EraseFill::default(),
        }
    }

    /// Whether every value makes sense.
    ///
    /// # Errors
    /// The first value that does not.
    pub fn check(&self) -> Result<(), TransformError> {
        check::image_size(self.image_size)?;
        check::resize(self.resize)?;
        check::scale(self.scale)?;
        check::ratio(self.ratio)?;
        check::probability("horizontal_flip", self.horizontal_flip)?;
        check::probability("vertical_flip", self.vertical_flip)?;
        check::rotation(self.rotation_degrees)?;
        check::strength("brightness", self.brightness)?;
        check::strength("contrast", self.contrast)?;
        check::strength("saturation", self.saturation)?;
        check::hue(self.hue)?;
        self.rand_augment.as_ref().map_or(Ok(()), check::rand_augment)?;
        check::noise(&self.noise)?;
        check::probability("erase", self.erase)?;
        check::erase_area(self.erase_area)?;
        check::erase_ratio(self.erase_ratio)
    }

    /// Whether [`Transform::apply_but_last`] may leave anything to do.
    ///
    /// A turn or flip is left where nothing that comes after it minds where pixels are. Rotation by any angle does, and RandAugment, noise, and a hidden
    /// rectangle with random pixels; changes of colour do not, for the mean grey is that of a sum of whole numbers. What is hidden behind one colour is left.
    #[must_use]
    pub fn may_leave_steps(&self) -> bool {
        let turns = self.horizontal_flip > 0.0 || self.vertical_flip > 0.0 || self.quarter_turns;
        let erases = self.erase > 0.0 && self.erase_fill != EraseFill::Pixel;
        erases || (turns && self.rotation_degrees == 0.0 && self.has_neither_noise_nor_rand_augment())
    }

    fn has_neither_noise_nor_rand_augment(&self) -> bool {
        self.rand_augment.is_none() && self.noise == DocumentNoise::default()
    }

    /// Whether turning can be the last step but erasing, to the byte.
    fn turns_last(&self, choices: &Choices) -> bool {
        let hides_behind_pixels = choices.erased.is_some() && self.erase_fill == EraseFill::Pixel;
        choices.rotation_degrees == 0.0 && !hides_behind_pixels && self.has_neither_noise_nor_rand_augment()
    }

    /// Fills `output`, `[H, W, C]`, and leaves what it may where that is asked for.
    fn vary(&self, image: &RasterImage, key: SampleKey, output: &mut [u8], leaves: bool) -> LastSteps {
        let choices = Choices::draw(self, &mut Random::for_sample(Stream::Augment, key));
        let image = with_channels(image, self.channels);
        let crop = choices.crop(self.resize, size_of(&image));
        resample(&image, crop, self.filter, self.image_size, bar_color(self.channels), output);
        let mut view = geometry::Square { size: self.image_size, count: self.channels.count(), pixels: output };
        let turns_last = leaves && self.turns_last(&choices);
        if !turns_last {
            choices.turn(&mut view);
        }
        view.rotate(choices.rotation_degrees);
        color::adjust(view.pixels, self.channels, choices.brightness, choices.contrast, choices.saturation);
        color::turn_hue(view.pixels, self.channels, choices.hue);
        if let Some(rand_augment) = &self.rand_augment {
            let random = &mut Random::for_sample(Stream::RandAugment, key);
            rand_augment.apply(&mut view, random, bar_color(self.channels));
        }
        if self.noise != DocumentNoise::default() {
            self.noise.apply(&mut view, &mut Random::for_sample(Stream::Noise, key));
        }
        let symmetry = if turns_last { choices.symmetry() } else { Symmetry::default() };
        let erased = choices.erased.and_then(|patch| self.hide(&mut view, patch, key, leaves));
        LastSteps { symmetry, erased, mixed: None }
    }

    /// Hides a rectangle, or tells what is to be hidden, where that is left.
    fn hide(&self, view: &mut geometry::Square<'_>, patch: Patch, key: SampleKey, leaves: bool) -> Option<Erased> {
        let random = &mut Random::for_sample(Stream::Erase, key);
        if leaves && let Some(color) = self.erase_fill.color(view, self.channels, random) {
            return Some(Erased { place: patch.rectangle(view), color });
        }
        self.erase_fill.erase(view, patch, self.channels, random);
        None
    }
}

impl Transform for TrainTransform {
    fn channels(&self) -> Channels {
        self.channels
    }

    fn image_size(&self) -> usize {
        self.image_size
    }

    fn decode_reduction(&self, size: [usize; 2], key: SampleKey) -> u16 {
        let choices = Choices::draw(self, &mut Random::for_sample(Stream::Augment, key));
        reduction(choices.crop(self.resize, size), self.image_size)
    }

    fn apply(&self, image: &RasterImage, key: SampleKey, output: &mut [u8]) {
        self.vary(image, key, output, false);
    }

    fn apply_but_last(&self, image: &RasterImage, key: SampleKey, output: &mut [u8]) -> LastSteps {
        self.vary(image, key, output, true)
    }
}

/// Everything that chance decides for one sample.
#[derive(Debug, Clone, PartialEq)]
struct Choices {
    area_share: f32,
    ratio: f32,
    /// Of the free room to the left and above, as shares.
    place: [f32; 2],
    flip_horizontally: bool,
    flip_vertically: bool,
    quarter_turns: u64,
    rotation_degrees: f32,
    brightness: f32,
    contrast: f32,
    saturation: f32,
    erased: Option<Patch>,
    /// In rounds of the colour circle.
    hue: f32,
}

impl Choices {
    /// The order of these lines is part of what a seed means.
    fn draw(transform: &TrainTransform, random: &mut Random) -> Self {
        let area_share = random.between(transform.scale.0, transform.scale.1);
        let ratio = log_uniform(random, transform.ratio);
        let place = [random.unit(), random.unit()];
        let flip_horizontally = random.unit() < transform.horizontal_flip;
        let flip_vertically = random.unit() < transform.vertical_flip;
        let quarter_turns = random.below(4) * u64::from(transform.quarter_turns);
        let rotation_degrees = random.between(-1.0, 1.0) * transform.rotation_degrees;
        let mut factor = |strength: f32| (1.0 + random.between(-1.0, 1.0) * strength).max(0.0);
        let [brightness, contrast, saturation] =
            [factor(transform.brightness), factor(transform.contrast), factor(transform.saturation)];
        let is_erased = random.unit() < transform.erase;
        let patch = Patch {
            area_share: random.between(transform.erase_area.0, transform.erase_area.1),
            ratio: log_uniform(random, transform.erase_ratio),
            place: [random.unit(), random.unit()],
        };
        let erased = is_erased.then_some(patch);
        let hue = random.between(-1.0, 1.0) * transform.hue;
        Self {
            area_share,
            ratio,
            place,
            flip_horizontally,
            flip_vertically,
            quarter_turns,
            rotation_degrees,
            brightness,
            contrast,
            saturation,
            erased,
            hue,
        }
    }

    /// Mirrors and turns a view.
    fn turn(&self, view: &mut geometry::Square<'_>) {
        if self.flip_horizontally {
            view.flip_horizontally();
        }
        if self.flip_vertically {
            view.flip_vertically();
        }
        view.turn(self.quarter_turns);
    }

    /// The same as one step.
    fn symmetry(&self) -> Symmetry {
        Symmetry::of(self.flip_horizontally, self.flip_vertically, self.quarter_turns)
    }

    /// A rectangle of `area_share` of what evaluation shows, no side longer than there is room.
    fn crop(&self, resize: ResizeMode, size: [usize; 2]) -> Crop {
        let frame = match resize {
            ResizeMode::Squash | ResizeMode::Letterbox => resize.evaluation_crop(size),
            ResizeMode::CenterCrop { .. } => ResizeMode::Squash.evaluation_crop(size),
        };
        let proportions = match resize {
            ResizeMode::Squash => frame.width / frame.height,
            ResizeMode::Letterbox | ResizeMode::CenterCrop { .. } => 1.0,
        };
        let area = frame.width * frame.height * f64::from(self.area_share);
        let ratio = proportions * f64::from(self.ratio);
        let width = (area * ratio).sqrt().max(1.0).min(frame.width);
        let height = (area / ratio).sqrt().max(1.0).min(frame.height);
        Crop {
            left: frame.left + (frame.width - width) * f64::from(self.place[0]),
            top: frame.top + (frame.height - height) * f64::from(self.place[1]),
            width,
            height,
        }
    }
}

/// Of the image, as in "Random Erasing Data Augmentation" (Zhong et al., 2017) and timm.
const ERASED_AREA: (f32, f32) = (0.02, 1.0 / 3.0);
const ERASED_RATIO: (f32, f32) = (0.3, 1.0 / 0.3);

/// Half as wide is as likely as twice as wide.
fn log_uniform(random: &mut Random, (low, high): (f32, f32)) -> f32 {
    random.between(low.ln(), high.ln()).exp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EvalTransform;

    fn key(epoch: u64, sample: u64) -> SampleKey {
        SampleKey { seed: 42, epoch, sample, repeat: 0 }
    }

    fn photograph(width: usize, height: usize) -> RasterImage {
        let value = |place: usize| ((place * 31) % 251) as u8 ^ (place / 97) as u8;
        RasterImage::new(width, height, Channels::Rgb, (0..width * height * 3).map(value).collect()).unwrap()
    }

    fn lively() -> TrainTransform {
        TrainTransform {
            scale: (0.3, 1.0),
            ratio: (0.75, 1.33),
            horizontal_flip: 0.5,
            vertical_flip: 0.5,
            quarter_turns: true,
            rotation_degrees: 20.0,
            brightness: 0.3,
            contrast: 0.3,
            saturation: 0.3,
            hue: 0.1,
            rand_augment: Some(RandAugment::default()),
            noise: DocumentNoise { uneven_light: 0.3, blur: 0.5, speckle: 0.05, jpeg: 0.5, ..Default::default() },
            erase: 0.5,
            ..TrainTransform::new(16, Channels::Rgb, ResizeMode::Squash)
        }
    }

    fn applied(transform: &dyn Transform, image: &RasterImage, key: SampleKey) -> Vec<u8> {
        let mut output = vec![0; transform.output_size().iter().product()];
        transform.apply(image, key, &mut output);
        output
    }

    #[test]
    fn the_same_key_gives_the_same_pixels_and_every_part_of_it_matters() {
        let image = photograph(40, 30);
        let views = [
            key(0, 0),
            key(1, 0),
            key(0, 1),
            SampleKey { seed: 43, ..key(0, 0) },
            SampleKey { repeat: 1, ..key(0, 0) },
        ];
        let views = views.map(|key| applied(&lively(), &image, key));
        assert_eq!(views[0], applied(&lively(), &image, key(0, 0)));
        for (index, view) in views.iter().enumerate() {
            assert!(views[index + 1..].iter().all(|other| other != view));
        }
    }

    #[test]
    fn with_everything_off_training_sees_what_evaluation_sees() {
        let image = photograph(50, 30);
        for resize in [ResizeMode::Squash, ResizeMode::Letterbox] {
            for filter in [ResizeFilter::Bilinear, ResizeFilter::Bicubic] {
                let train = TrainTransform { filter, ..TrainTransform::new(16, Channels::Rgb, resize) };
                let eval = EvalTransform { image_size: 16, channels: Channels::Rgb, resize, filter };
                assert_eq!(applied(&train, &image, key(3, 4)), applied(&eval, &image, key(0, 0)));
            }
        }
    }

    #[test]
    fn switching_one_step_on_leaves_the_choices_of_the_others() {
        let draw =
            |transform: &TrainTransform| Choices::draw(transform, &mut Random::for_sample(Stream::Augment, key(1, 2)));
        let plain = TrainTransform {
            scale: (0.5, 1.0),
            erase: 1.0,
            ..TrainTransform::new(8, Channels::Rgb, ResizeMode::Squash)
        };
        let turned = TrainTransform { quarter_turns: true, brightness: 0.4, ..plain.clone() };
        let (plain, turned) = (draw(&plain), draw(&turned));
        assert_eq!((plain.area_share, plain.place, plain.erased), (turned.area_share, turned.place, turned.erased));
    }

    /// Each step of a transform alone, in the order of the fields, but erasing at the end.
    fn steps_of(whole: &TrainTransform) -> Vec<TrainTransform> {
        let none = || TrainTransform::new(whole.image_size, whole.channels, whole.resize);
        let noisy = |noise| TrainTransform { noise, ..none() };
        let (noise, quiet) = (whole.noise, DocumentNoise::default());
        vec![
            TrainTransform { scale: whole.scale, ratio: whole.ratio, ..none() },
            TrainTransform { horizontal_flip: whole.horizontal_flip, ..none() },
            TrainTransform { vertical_flip: whole.vertical_flip, ..none() },
            TrainTransform { quarter_turns: whole.quarter_turns, ..none() },
            TrainTransform { rotation_degrees: whole.rotation_degrees, ..none() },
            TrainTransform { brightness: whole.brightness, ..none() },
            TrainTransform { contrast: whole.contrast, ..none() },
            TrainTransform { saturation: whole.saturation, ..none() },
            TrainTransform { hue: whole.hue, ..none() },
            TrainTransform { rand_augment: whole.rand_augment, ..none() },
            noisy(DocumentNoise { uneven_light: noise.uneven_light, ..quiet }),
            noisy(DocumentNoise { blur: noise.blur, blur_sigma: noise.blur_sigma, ..quiet }),
            noisy(DocumentNoise { speckle: noise.speckle, ..quiet }),
            noisy(DocumentNoise { jpeg: noise.jpeg, jpeg_quality: noise.jpeg_quality, ..quiet }),
            TrainTransform { erase: whole.erase, ..none() },
        ]
    }

    #[test]
    fn a_whole_view_is_what_its_steps_make_one_after_the_other() {
        let image = photograph(40, 30);
        let mut changes = [0; 15];
        for sample in 0..60 {
            let mut view = image.clone();
            for (step, count) in steps_of(&lively()).iter().zip(&mut changes) {
                let pixels = applied(step, &view, key(0, sample));
                *count += usize::from(pixels != view.pixels());
                view = RasterImage::new(16, 16, Channels::Rgb, pixels).unwrap();
            }
            assert_eq!(view.pixels(), applied(&lively(), &image, key(0, sample)), "sample {sample}");
        }
        assert!(changes.iter().all(|&count| count >= 15), "a step hardly ever does anything: {changes:?}");
    }

    #[test]
    fn choices_stay_in_their_ranges_and_use_them() {
        let transform = lively();
        let draws: Vec<Choices> = (0..2000)
            .map(|sample| Choices::draw(&transform, &mut Random::for_sample(Stream::Augment, key(0, sample))))
            .collect();
        assert!(draws.iter().all(|draw| (0.3..=1.0).contains(&draw.area_share)));
        assert!(draws.iter().all(|draw| (0.74..=1.34).contains(&draw.ratio)));
        assert!(draws.iter().all(|draw| draw.rotation_degrees.abs() <= 20.0));
        let flipped = draws.iter().filter(|draw| draw.flip_horizontally).count();
        let erased = draws.iter().filter(|draw| draw.erased.is_some()).count();
        assert!((900..1100).contains(&flipped) && (900..1100).contains(&erased), "{flipped} {erased}");
        for quarters in 0..4 {
            let count = draws.iter().filter(|draw| draw.quarter_turns == quarters).count();
            assert!((420..580).contains(&count), "{count} of 2000 turned {quarters} times");
        }
    }

    #[test]
    fn crops_stay_inside_the_image_and_keep_their_share_of_it() {
        let transform = TrainTransform { ratio: (0.9, 1.1), scale: (0.2, 0.6), ..lively() };
        for sample in 0..500 {
            let choices = Choices::draw(&transform, &mut Random::for_sample(Stream::Augment, key(0, sample)));
            let crop = choices.crop(ResizeMode::Squash, [200, 50]);
            assert!(crop.left >= 0.0 && crop.left + crop.width <= 200.0 + 1e-9);
            assert!(crop.top >= 0.0 && crop.top + crop.height <= 50.0 + 1e-9);
            let share = crop.width * crop.height / 10_000.0;
            assert!((share - f64::from(choices.area_share)).abs() < 1e-6);
        }
    }

    #[test]
    fn images_are_decoded_smaller_where_two_pixels_are_left_for_each_of_the_result() {
        let transform = TrainTransform::new(100, Channels::Rgb, ResizeMode::Squash);
        for (size, expected) in
            [([399, 800], 1), ([400, 800], 2), ([1599, 900], 4), ([4000, 1600], 8), ([9999, 9999], 8)]
        {
            assert_eq!(transform.decode_reduction(size, key(0, 0)), expected, "{size:?}");
        }
        // A quarter of the area is half of each side.
        let cropped = TrainTransform { scale: (0.25, 0.25), ..transform };
        assert_eq!(cropped.decode_reduction([799, 799], key(0, 0)), 1);
        assert_eq!(cropped.decode_reduction([801, 801], key(0, 0)), 2);
    }

    #[test]
    fn tiny_images_and_settings_without_sense_do_not_panic() {
        let odd = TrainTransform {
            scale: (f32::NAN, -1.0),
            ratio: (0.0, f32::INFINITY),
            rotation_degrees: f32::NAN,
            brightness: 50.0,
            ..lively()
        };
        for (width, height) in [(1, 1), (1, 300), (300, 1), (2, 3)] {
            for sample in 0..50 {
                for resize in [ResizeMode::Squash, ResizeMode::Letterbox, ResizeMode::CenterCrop { crop_share: 0.9 }] {
                    for transform in [&lively(), &odd] {
                        let transform = TrainTransform { resize, ..transform.clone() };
                        applied(&transform, &photograph(width, height), key(0, sample));
                    }
                }
            }
        }
    }

    #[test]
    fn a_setting_without_sense_is_named() {
        let error = TrainTransform { scale: (0.9, 0.2), ..lively() }.check().unwrap_err();
        let expected =
            "`scale` is [0.9, 0.2], but it must be a range of shares of the area, ascending, above 0 and at most 1";
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.hint().unwrap(), "for instance `scale: [0.7, 1.0]`");
        assert!(lively().check().is_ok());
        assert_eq!(TrainTransform { erase: f32::NAN, ..lively() }.check().unwrap_err().setting, "erase");
    }
}
