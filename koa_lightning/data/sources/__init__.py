"""Sources of knees: each is one file with one function that returns manifest rows and opens no image.

`conf/data/NAME.yaml` names the function. A source that is an object with `read(row)` provides the images too, see
`koa_lightning.data.reading`.
"""
