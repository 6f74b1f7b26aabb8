//! The few driver calls that this crate makes, each wrapped so that the rest of it is safe code.
//!
//! Signatures follow `cuda.h` of the CUDA driver API: <https://docs.nvidia.com/cuda/cuda-driver-api/>.

use std::ffi::{CStr, OsStr, c_char, c_int, c_uint, c_void};
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::ptr;

use libloading::{Library, Symbol};

use crate::CudaUnavailable;

type CuResult = c_int;
type Context = *mut c_void;

/// `CUdevice`: a handle, not always the index.
type DeviceHandle = c_int;

type GetError = unsafe extern "system" fn(CuResult, *mut *const c_char) -> CuResult;
type Init = unsafe extern "system" fn(c_uint) -> CuResult;
type GetInt = unsafe extern "system" fn(*mut c_int) -> CuResult;
type GetDevice = unsafe extern "system" fn(*mut DeviceHandle, c_int) -> CuResult;
type GetName = unsafe extern "system" fn(*mut c_char, c_int, DeviceHandle) -> CuResult;
type GetTotal = unsafe extern "system" fn(*mut usize, DeviceHandle) -> CuResult;
type GetAttribute = unsafe extern "system" fn(*mut c_int, c_int, DeviceHandle) -> CuResult;
type RetainContext = unsafe extern "system" fn(*mut Context, DeviceHandle) -> CuResult;
type ReleaseContext = unsafe extern "system" fn(DeviceHandle) -> CuResult;
type PushContext = unsafe extern "system" fn(Context) -> CuResult;
type PopContext = unsafe extern "system" fn(*mut Context) -> CuResult;
type GetMemory = unsafe extern "system" fn(*mut usize, *mut usize) -> CuResult;

/// `CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR` and `..._MINOR`.
const COMPUTE_CAPABILITY: (c_int, c_int) = (75, 76);

const NAME_LENGTH: usize = 256;

/// A loaded driver library. It stays loaded: drivers start threads that must not lose their code.
pub(crate) struct DriverLibrary {
    library: ManuallyDrop<Library>,
    path: PathBuf,
}

impl DriverLibrary {
    pub(crate) fn load(path: &Path) -> Result<Self, CudaUnavailable> {
        // SAFETY: loading runs the library's initialisers. The path is the system's CUDA driver, or one that the caller
        // vouches for by naming it; a driver's initialisers ask nothing of the process.
        let library = unsafe { Library::new(OsStr::new(path)) };
        let library = library
            .map_err(|error| CudaUnavailable::NoDriver { library: path.to_owned(), reason: error.to_string() })?;
        Ok(Self { library: ManuallyDrop::new(library), path: path.to_owned() })
    }

    /// Must come before every other call; more often does no harm.
    pub(crate) fn start(&self) -> Result<(), CudaUnavailable> {
        // SAFETY: `cuInit(unsigned int)` has this signature and takes only 0.
        let code = unsafe { self.function::<Init>("cuInit")?(0) };
        self.check("cuInit", code)
    }

    pub(crate) fn version(&self) -> Result<(u32, u32), CudaUnavailable> {
        let version = self.read_int("cuDriverGetVersion")?;
        // 12040 is 12.4.
        Ok((version / 1000, version % 1000 / 10))
    }

    pub(crate) fn device_count(&self) -> Result<usize, CudaUnavailable> {
        Ok(self.read_int("cuDeviceGetCount")? as usize)
    }

    pub(crate) fn device(&self, index: usize) -> Result<DeviceHandle, CudaUnavailable> {
        // An index beyond `c_int` names no device; the driver says so of -1.
        let ordinal = c_int::try_from(index).unwrap_or(-1);
        let mut handle = 0;
        // SAFETY: the signature is the header's, and the pointer is to a live variable.
        let code = unsafe { self.function::<GetDevice>("cuDeviceGet")?(&mut handle, ordinal) };
        self.check("cuDeviceGet", code)?;
        Ok(handle)
    }

    pub(crate) fn device_name(&self, device: DeviceHandle) -> Result<String, CudaUnavailable> {
        let mut buffer = [0u8; NAME_LENGTH];
        // SAFETY: the signature is the header's; the buffer is writable for the length passed, which leaves its last
        // byte zero whatever the driver writes.
        let code = unsafe {
            let length = (NAME_LENGTH - 1) as c_int;
            self.function::<GetName>("cuDeviceGetName")?(buffer.as_mut_ptr().cast(), length, device)
        };
        self.check("cuDeviceGetName", code)?;
        let name = CStr::from_bytes_until_nul(&buffer).unwrap_or_default();
        Ok(name.to_string_lossy().into_owned())
    }

    pub(crate) fn total_bytes(&self, device: DeviceHandle) -> Result<u64, CudaUnavailable> {
        let mut bytes = 0usize;
        // SAFETY: the signature is the header's, and the pointer is to a live variable.
        let code = unsafe { self.function::<GetTotal>("cuDeviceTotalMem_v2")?(&mut bytes, device) };
        self.check("cuDeviceTotalMem_v2", code)?;
        Ok(bytes as u64)
    }

    pub(crate) fn compute_capability(&self, device: DeviceHandle) -> Result<(u32, u32), CudaUnavailable> {
        let (major, minor) = COMPUTE_CAPABILITY;
        Ok((self.attribute(major, device)?, self.attribute(minor, device)?))
    }

    /// Free and total bytes, read inside the device's primary context.
    pub(crate) fn memory(&self, index: usize) -> Result<(u64, u64), CudaUnavailable> {
        let device = self.device(index)?;
        let context = PrimaryContext::enter(self, device)?;
        let (mut free, mut total) = (0usize, 0usize);
        // SAFETY: the signature is the header's, both pointers are to live variables, and a context is current.
        let code = unsafe { self.function::<GetMemory>("cuMemGetInfo_v2")?(&mut free, &mut total) };
        drop(context);
        self.check("cuMemGetInfo_v2", code)?;
        Ok((free as u64, total as u64))
    }

    fn attribute(&self, attribute: c_int, device: DeviceHandle) -> Result<u32, CudaUnavailable> {
        let mut value = 0;
        // SAFETY: the signature is the header's, and the pointer is to a live variable.
        let code = unsafe { self.function::<GetAttribute>("cuDeviceGetAttribute")?(&mut value, attribute, device) };
        self.check("cuDeviceGetAttribute", code)?;
        Ok(u32::try_from(value).unwrap_or(0))
    }

    fn read_int(&self, function: &'static str) -> Result<u32, CudaUnavailable> {
        let mut value = 0;
        // SAFETY: both callers name a function of this signature, and the pointer is to a live variable.
        let code = unsafe { self.function::<GetInt>(function)?(&mut value) };
        self.check(function, code)?;
        Ok(u32::try_from(value).unwrap_or(0))
    }

    /// # Safety
    /// `T` must be the function pointer type of `name`.
    unsafe fn function<T>(&self, name: &'static str) -> Result<Symbol<'_, T>, CudaUnavailable> {
        // SAFETY: the caller vouches for the type.
        unsafe { self.library.get(name.as_bytes()) }
            .map_err(|_| CudaUnavailable::MissingFunction { library: self.path.clone(), function: name.to_owned() })
    }

    fn check(&self, function: &'static str, code: CuResult) -> Result<(), CudaUnavailable> {
        if code == 0 {
            return Ok(());
        }
        Err(CudaUnavailable::from_code(function, code, self.error_name(code)))
    }

    fn error_name(&self, code: CuResult) -> String {
        let mut name = ptr::null();
        // SAFETY: the signature is the header's, and the pointer is to a live variable.
        let found = unsafe { self.function::<GetError>("cuGetErrorName").map(|function| function(code, &mut name)) };
        if found != Ok(0) || name.is_null() {
            return "unknown error".to_owned();
        }
        // SAFETY: on success the driver points to a static string that ends in a zero byte.
        unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
    }
}

/// A device's primary context, current on this thread and held until dropped.
struct PrimaryContext<'a> {
    driver: &'a DriverLibrary,
    device: DeviceHandle,
    is_current: bool,
}

impl<'a> PrimaryContext<'a> {
    fn enter(driver: &'a DriverLibrary, device: DeviceHandle) -> Result<Self, CudaUnavailable> {
        let mut context = ptr::null_mut();
        // SAFETY: the signature is the header's, and the pointer is to a live variable.
        let code = unsafe {
            let retain = driver.function::<RetainContext>("cuDevicePrimaryCtxRetain")?;
            retain(&mut context, device)
        };
        driver.check("cuDevicePrimaryCtxRetain", code)?;
        let mut entered = Self { driver, device, is_current: false };
        // SAFETY: the signature is the header's, and the context was just retained.
        let code = unsafe { driver.function::<PushContext>("cuCtxPushCurrent_v2")?(context) };
        driver.check("cuCtxPushCurrent_v2", code)?;
        entered.is_current = true;
        Ok(entered)
    }
}

impl Drop for PrimaryContext<'_> {
    /// Errors are of no use here: what was to be read has been read.
    fn drop(&mut self) {
        if self.is_current {
            let mut popped = ptr::null_mut();
            // SAFETY: the signature is the header's; the context on top is the one that `enter` pushed.
            let _ = unsafe { self.driver.function::<PopContext>("cuCtxPopCurrent_v2").map(|pop| pop(&mut popped)) };
        }
        // SAFETY: the signature is the header's; `enter` retained the context once.
        let _ = unsafe {
            let release = self.driver.function::<ReleaseContext>("cuDevicePrimaryCtxRelease_v2");
            release.map(|release| release(self.device))
        };
    }
}
