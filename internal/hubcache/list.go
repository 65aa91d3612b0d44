package hubcache

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// readList reads a list in JSON, and calls each with one item after the other, of which one at a
// time is held.
func readList(answer io.Reader, each func(item []byte) error) (meta metav1.ListMeta, err error) {
	decoder := json.NewDecoder(answer)
	err = object(decoder, func(name string) error {
		switch name {
		case "metadata":
			return decoder.Decode(&meta)
		case "items":
			return array(decoder, func() error {
				var item json.RawMessage
				if err := decoder.Decode(&item); err != nil {
					return err
				}
				return each(item)
			})
		}
		return decoder.Decode(new(json.RawMessage))
	})
	if err != nil {
		return metav1.ListMeta{}, fmt.Errorf("reading a list of PooledJobs: %w", err)
	}
	return meta, nil
}

// object reads an object; field reads the value of each field.
func object(decoder *json.Decoder, field func(name string) error) error {
	if err := expect(decoder, '{'); err != nil {
		return err
	}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return err
		}
		text, ok := name.(string)
		if !ok {
			return errNotAList
		}
		if err := field(text); err != nil {
			return err
		}
	}
	return expect(decoder, '}')
}

// array reads an array, which may be null; element reads each.
func array(decoder *json.Decoder, element func() error) error {
	switch token, err := decoder.Token(); {
	case err != nil:
		return err
	case token == nil:
		return nil
	case token != json.Delim('['):
		return errNotAList
	}
	for decoder.More() {
		if err := element(); err != nil {
			return err
		}
	}
	return expect(decoder, ']')
}

func expect(decoder *json.Decoder, want json.Delim) error {
	token, err := decoder.Token()
	if err == nil && token != want {
		err = errNotAList
	}
	return err
}

var errNotAList = errors.New("it is not one")
