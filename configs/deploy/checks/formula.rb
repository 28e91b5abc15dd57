# formula.rb FILE ROOT: the formula loads, says what Homebrew needs to know, and its install step runs, in a stand-in of Homebrew's formulae
# that writes down what it is asked for. Not Homebrew: no audit, no build.
file, root = ARGV

class Asked
  attr_reader :path
  def initialize(path) = @path = path
  def /(name) = Asked.new("#{@path}/#{name}")
  def to_s = @path
  def to_str = @path
  def install(*what) = Formula.said << [:install, @path, *what]
  def write(text) = Formula.said << [:write, @path, text]
  def opt_bin = Asked.new("#{@path}/bin")
end

module License; end

class Formula
  class << self
    attr_reader :told, :blocks
    def said = @@said
    def inherited(made)
      made.instance_variable_set(:@told, {})
      made.instance_variable_set(:@blocks, {})
      @@made = made
    end
    def made = @@made
    def [](name) = Asked.new("/opt/#{name}")
    %i[desc homepage url version sha256 license].each { |word| define_method(word) { |value| @told[word] = value } }
    def depends_on(what) = (@told[:needs] ||= []) << what
    def service(&block) = @blocks[:service] = block
    def test(&block) = @blocks[:test] = block
  end
  @@said = []
  %i[bin buildpath etc man1 var testpath opt_bin].each { |word| define_method(word) { Asked.new("/#{word}") } }
  def version = self.class.told[:version]
  def system(*words) = Formula.said << [:system, *words.map(&:to_s)]
  def std_cargo_args(path:) = ["--locked", "--root=/prefix", "--path=#{path}"]
  def generate_completions_from_executable(*words) = Formula.said << [:completions, *words.map(&:to_s)]
  def shell_output(_command) = version
  def assert_match(wanted, text) = text.include?(wanted) || raise("#{text} has no #{wanted}")
  def free_port = 8787
  # What `service do` may say.
  %i[run keep_alive working_dir log_path error_log_path].each { |word| define_method(word) { |value| Formula.said << [word, value] } }
end

ENV.define_singleton_method(:prepend_path) { |name, path| self[name] = "#{path}:#{self[name]}" }

load file
made = Formula.made
faults = []
%i[desc homepage url version sha256 license].each { |word| faults << "it says no #{word}" if made.told[word].to_s.empty? }
faults << "desc has #{made.told[:desc].size} letters" if made.told[:desc].size > 80
faults << "desc begins with an article" if made.told[:desc].match?(/\A(an?|the) /i)
faults << "sha256 is none" unless made.told[:sha256].match?(/\A\h{64}\z/)
formula = made.new
formula.install
formula.instance_eval(&made.blocks[:service])
formula.instance_eval(&made.blocks[:test])
said = Formula.said
faults << "it builds no gateway" unless said.any? { |words| words[..2] == [:system, "cargo", "install"] && words.include?("--path=gateway") }
said.select { |words| words.first == :install }.flat_map { |_, _, *what| what }.grep(Hash).flat_map(&:keys).each do |source|
  faults << "#{source} is not in the checkout" unless File.file?("#{root}/#{source}")
end
warn faults
exit faults.empty?
