package kubeconfig

import (
	"bytes"
	"fmt"
	"regexp"
)

// What a kubeconfig may have. Decoding takes some hundred times as much memory as an empty element of a
// list has in the document, and an alias stands for a whole part of it.
const (
	// MaxSize is how long it may be, in bytes: some hundred contexts with their certificates.
	MaxSize = 256 << 10
	// maxElements is how many elements of lists and objects it may have.
	maxElements = 16 << 10
	// maxAliases is how many YAML aliases it may have.
	maxAliases = 4
)

// alias matches a YAML alias.
var alias = regexp.MustCompile(`(?:^|[\s\[\]{},:?-])\*[A-Za-z0-9_-]`)

// checkSize refuses a document before anything of it is decoded.
func checkSize(data []byte) error {
	if len(data) > MaxSize {
		return fmt.Errorf("the kubeconfig is %d bytes long; at most %d are allowed: keep the context that is meant", len(data), MaxSize)
	}
	elements := 0
	for i, c := range data {
		switch c {
		case '{', '[', ',', ':', '?', '\n', '\r':
			elements++
		case '-':
			if i+1 < len(data) && (data[i+1] == ' ' || data[i+1] == '\t') {
				elements++
			}
		}
	}
	if elements > maxElements {
		return fmt.Errorf("the kubeconfig has more than %d elements: keep the context that is meant", maxElements)
	}
	if bytes.IndexByte(data, '*') >= 0 && len(alias.FindAllIndex(data, maxAliases+1)) > maxAliases {
		return fmt.Errorf("the kubeconfig has more than %d YAML aliases: write out what they stand for", maxAliases)
	}
	return nil
}
