"""From a prepared folder to MMDetection data sets, transforms and anchors."""
