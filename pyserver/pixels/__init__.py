"""Pictures out of pixel data.

The kernels `window`, `downsize`, `planar`, `palette` and `crop` are built from `native/pixels`:
pure functions on memoryviews that know nothing of DICOM. `render` and `thumbnail` put them to use.
"""
