# Runs the expressions of record_modifier filters on records, as fluent-plugin-record-modifier does:
# `prepare_value` once per value, then each `${…}` with the record and the parts of its tag at hand.
require 'json'

class Expression
  def initialize(value, prepare)
    alone = value.scan('${').size == 1 && value.start_with?('${') && value.end_with?('}')
    code = value.include?('${') ? (alone ? value[2..-2] : "\"#{value.gsub('${', '#{')}\"") : value.inspect
    singleton_class.class_eval("def expand(tag_parts, record)\n#{code}\nend")
    instance_eval(prepare) if prepare
  end
end

given = JSON.parse($stdin.read)
filters = given['filters'].map do |filter|
  filter['values'].to_h { |key, value| [key, Expression.new(value, filter['prepare'])] }
end
results = given['records'].map do |item|
  record = item['record']
  filters.each { |filter| filter.each { |key, expression| record[key] = expression.expand(item['tag_parts'], record) } }
  record
end
puts JSON.generate(results)
