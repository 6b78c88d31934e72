// node provider.js PORT ISSUER_PORT_OF_CLIENT: oidc-provider on loopback, with people whose groups a test needs.
import Provider from 'oidc-provider';

const [port, client] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;
const people = {
  meyer: { groups: ['staff', 'radiology-north'], preferred_username: 'meyer', email: 'shared@hospital.example' },
  roth: { groups: ['administrators'], preferred_username: 'roth', email: 'shared@hospital.example' },
  guest: { groups: ['visitors'], preferred_username: 'guest' },
  // another person of the same name
  double: { groups: ['radiology-north'], preferred_username: 'meyer' },
};

const provider = new Provider(issuer, {
  clients: ['radir', 'other'].map((id) => ({
    client_id: id,
    client_secret: 'a secret of the provider and of us',
    redirect_uris: [`http://127.0.0.1:${client}/sign-in/return`],
    post_logout_redirect_uris: [`http://127.0.0.1:${client}/sign-in`],
  })),
  claims: { openid: ['sub'], profile: ['groups', 'preferred_username'], email: ['email'] },
  conformIdTokenClaims: true,
  pkce: { required: () => true },
  cookies: { keys: ['of the tests'] },
  features: { devInteractions: { enabled: true }, rpInitiatedLogout: { enabled: true } },
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({ sub: id, ...people[id] }),
  }),
});

provider.listen(Number(port), '127.0.0.1', () => console.log('ready'));
