package kubeconfig

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"
)

// This file names mistakes that are easy to make and hard to see.

// notAConfig is why a document could not be loaded. The decoder's own message can quote the
// input, which may be a key.
func notAConfig(data []byte) error {
	if isBase64(data) {
		return errors.New("the kubeconfig is encoded in base64 once too often: a Secret's data is encoded once, its stringData not at all")
	}
	if err := duplicateName(data); err != nil {
		return err
	}
	return errors.New("the kubeconfig is not a valid v1 Config document in YAML or JSON")
}

// duplicateName names what is in a list twice, by kind and place: a name may be a secret in the
// wrong place.
func duplicateName(data []byte) error {
	type named []struct {
		Name string `json:"name"`
	}
	var document struct {
		Clusters named `json:"clusters"`
		Users    named `json:"users"`
		Contexts named `json:"contexts"`
	}
	if yaml.Unmarshal(data, &document) != nil {
		return nil
	}
	for _, list := range []struct {
		of    string
		items named
	}{{"clusters", document.Clusters}, {"users", document.Users}, {"contexts", document.Contexts}} {
		first := map[string]int{}
		for i, item := range list.items {
			if earlier, ok := first[item.Name]; ok {
				return fmt.Errorf("%s[%d] of the kubeconfig has the same name as %s[%d]; take one out, or give it another name", list.of, i, list.of, earlier)
			}
			first[item.Name] = i
		}
	}
	return nil
}

// twice adds to what is wrong with a field that holds PEM if that is only encoded once more
// than it should be.
func twice(field string, data []byte, wrong error) error {
	if wrong != nil && isBase64(data) {
		return fmt.Errorf("%s is encoded in base64 twice; encode the PEM once", field)
	}
	return wrong
}

// isBase64 reports whether data are the base64 encoding of PEM, or of something that looks like a
// kubeconfig.
func isBase64(data []byte) bool {
	text := strings.Join(strings.Fields(string(data)), "")
	decoded, err := base64.StdEncoding.DecodeString(text)
	return err == nil && (bytes.Contains(decoded, []byte("-----BEGIN ")) || bytes.Contains(decoded, []byte("apiVersion")))
}
