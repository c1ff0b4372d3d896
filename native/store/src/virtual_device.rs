//! Devices that stand for another server: rows that `clonedb` copied have no file here.
//!
//! Conquest calls the device of an image that virtual server N has `MAG0.N` (manual, virtual servers). Here
//! it is a device number with the highest bit set.

/// Device numbers from here on are virtual.
const VIRTUAL: u16 = 0x8000;

/// The device of images that virtual server `server` has.
pub const fn virtual_device(server: u16) -> u16 {
    VIRTUAL | server
}

/// Whether the file of such a device's images is elsewhere.
pub const fn is_virtual(device: u16) -> bool {
    device & VIRTUAL != 0
}

/// Name as Conquest writes it: `MAG0`, or `MAG0.2` for virtual server 2.
pub fn device_name(device: u16) -> String {
    if is_virtual(device) {
        format!("MAG0.{}", device & !VIRTUAL)
    } else {
        format!("MAG{device}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_conquests() {
        assert_eq!(device_name(3), "MAG3");
        assert_eq!(device_name(virtual_device(0)), "MAG0.0");
        assert_eq!(device_name(virtual_device(12)), "MAG0.12");
        assert!(is_virtual(virtual_device(0)) && !is_virtual(0x7FFF));
    }
}
