"""Rules of the farm: standard library only (and the bucket's words from nodeimage.protocol). Nothing here touches the world."""
