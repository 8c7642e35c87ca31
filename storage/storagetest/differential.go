package storagetest

var differentialPromises = []promise{}
