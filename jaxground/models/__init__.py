"""NNX networks with taps named as in their papers."""

from jaxground.models.alexnet import AlexNet as AlexNet
from jaxground.models.cifar_resnet import CifarResNet as CifarResNet
from jaxground.models.cnn_2 import CNN2 as CNN2
from jaxground.models.compact_vgg import CompactVGG as CompactVGG
from jaxground.models.creation import create as create
from jaxground.models.creation import shapes as shapes
from jaxground.models.creation import weights_file as weights_file
from jaxground.models.depthwise import depthwise_convolution as depthwise_convolution
from jaxground.models.googlenet import GoogLeNet as GoogLeNet
from jaxground.models.mobilenet import MobileNetV1 as MobileNetV1
from jaxground.models.network import Card as Card
from jaxground.models.network import Network as Network
from jaxground.models.network import class_names as class_names
from jaxground.models.network import imagenet_wnids as imagenet_wnids
from jaxground.models.preprocess import Preprocess as Preprocess
from jaxground.models.recurrent import LRCN as LRCN
from jaxground.models.recurrent import LSTM as LSTM
from jaxground.models.recurrent import recurrent_map as recurrent_map
from jaxground.models.registry import names as names
from jaxground.models.registry import torchvision_names as torchvision_names
from jaxground.models.resnet import ResNet as ResNet
from jaxground.models.squeezenet import SqueezeNet as SqueezeNet
from jaxground.models.submodules import with_taps as with_taps
from jaxground.models.vgg import VGG as VGG
from jaxground.models.vit import ViT as ViT
from jaxground.models.vocabulary import find_classes as find_classes
