"""What a site wants done with objects and queries: the converter language of Conquest.

`parser` turns the lines of dicom.ini into trees once, when the configuration is read; `runtime`
runs a tree on one object. `rules` is what the native server calls.
"""
