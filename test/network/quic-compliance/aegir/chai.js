// The one export of aegir that @libp2p/interface-compliance-tests imports: chai's expect with the plugins it speaks.
import * as chai from 'chai'
import chaiAsPromised from 'chai-as-promised'
import chaiBites from 'chai-bites'

/** `expect(x).to.be.true()`: the suites call what chai has as properties. Each asserts when it is read; the call adds nothing. */
function callableProperties({ Assertion }) {
  for (const name of ['ok', 'true', 'false', 'null', 'undefined', 'exist', 'empty', 'rejected', 'fulfilled'])
    Assertion.overwriteProperty(
      name,
      assert =>
        function () {
          assert.call(this)
          return new Proxy(() => this, { get: (_call, key) => Reflect.get(this, key, this) })
        },
    )
}

for (const plugin of [chaiAsPromised, chaiBites, callableProperties]) chai.use(plugin)

export const expect = chai.expect
