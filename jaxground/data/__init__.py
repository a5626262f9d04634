"""Photographs as arrays, and what is labelled in them."""

from jaxground.data.annotations import AnnotationError as AnnotationError
from jaxground.data.annotations import Dataset as Dataset
from jaxground.data.annotations import Example as Example
from jaxground.data.annotations import Instance as Instance
from jaxground.data.coco import read_coco as read_coco
from jaxground.data.example import example_photograph as example_photograph
from jaxground.data.imagenet import read_imagenet as read_imagenet
from jaxground.data.images import Found as Found
from jaxground.data.images import ImageError as ImageError
from jaxground.data.images import find_images as find_images
from jaxground.data.images import measure_image as measure_image
from jaxground.data.images import read_image as read_image
from jaxground.data.voc import read_voc as read_voc
