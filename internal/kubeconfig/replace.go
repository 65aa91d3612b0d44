package kubeconfig

import (
	"bytes"
	"errors"
	"reflect"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// maxTries bounds how many places of a document are tried. The token is in one, but for
// documents that are made to be odd.
const maxTries = 8

// ReplaceToken puts another token into a kubeconfig, in the place of the one of the
// current context's user, and keeps the rest: where the token is written as it is, every
// byte; else what the kubeconfig means. A kubeconfig that Parse would refuse, before or
// after, is an error, and so is one without a token.
func ReplaceToken(data []byte, token string) ([]byte, error) {
	before, err := Parse(data)
	if err != nil {
		return nil, err
	}
	if before.Token == "" {
		return nil, errNoToken
	}
	wanted, user, err := loadUser(data)
	if err != nil {
		return nil, err
	}
	user.Token = token
	written, err := write(data, before.Token, wanted)
	if err != nil {
		return nil, err
	}
	after, err := Parse(written)
	if err != nil {
		return nil, err
	}
	if before.Token = token; !reflect.DeepEqual(before, after) {
		return nil, errors.New("the kubeconfig would mean something else with another token")
	}
	return written, nil
}

// loadUser reads a kubeconfig that passed Parse, and finds the current context's user.
func loadUser(data []byte) (*clientcmdapi.Config, *clientcmdapi.AuthInfo, error) {
	config, err := clientcmd.Load(data)
	if err != nil {
		return nil, nil, errors.New("the kubeconfig cannot be read")
	}
	_, user, err := currentContext(config)
	return config, user, err
}

// write makes a document that means what is wanted: the old one with the new token in one
// place, if there is such a place, else a new one.
func write(data []byte, old string, wanted *clientcmdapi.Config) ([]byte, error) {
	_, user, err := currentContext(wanted)
	if err != nil {
		return nil, err
	}
	for from, try := 0, 0; try < maxTries; try++ {
		at := bytes.Index(data[from:], []byte(old))
		if at < 0 {
			break
		}
		at += from
		from = at + 1
		candidate := bytes.Join([][]byte{data[:at], data[at+len(old):]}, []byte(user.Token))
		if config, err := clientcmd.Load(candidate); err == nil && reflect.DeepEqual(config, wanted) {
			return candidate, nil
		}
	}
	written, err := clientcmd.Write(*wanted)
	if err != nil {
		// The encoder's own message is not ours to promise that it quotes nothing.
		return nil, errors.New("the kubeconfig cannot be written")
	}
	return written, nil
}
