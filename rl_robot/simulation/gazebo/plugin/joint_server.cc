// Lock-step control of one robot: one message in per control period, one message back.
//
// A gazebo.msgs.JointAnimation carries named tables of numbers, which is all that is needed:
//   ~/<model>/request   model_name "<kind> <number>", joint: tables, time: a duration
//   ~/<model>/reply     model_name as it was asked, or "refused <number>: why"
// Kinds, and the tables that each needs (row by row):
//   configure  joints (effort, gain, damping), followers (leader's index, multiplier, offset),
//              objects ()
//   advance    set points (n numbers) of count + 1 samples, the present one first; time: a sample
//   reset      positions of the joints, poses of objects (x, y, z, qx, qy, qz, qw)
//   place      an empty table, poses of objects
//   rest       none. The world is whole, renderer and all: from now on none of it moves unasked
// A reply's tables are joints (position, velocity, effort for each sample) and the objects' poses
// relative to the robot; its times are the samples'.

#include <chrono>
#include <cmath>
#include <condition_variable>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <gazebo/common/Plugin.hh>
#include <gazebo/msgs/msgs.hh>
#include <gazebo/ode/ode.h>
#include <gazebo/physics/ode/ODELink.hh>
#include <gazebo/physics/physics.hh>
#include <gazebo/transport/transport.hh>

namespace rl_robot {

using Message = gazebo::msgs::JointAnimation;
using Pose = ignition::math::Pose3d;
using Table = gazebo::msgs::JointAnimation_Joint;

constexpr int kMostJoints = 64;
constexpr int kMostObjects = 256;
constexpr int kMostSamples = 100000;
constexpr long kMostSteps = 10000000;
constexpr int kPoseSize = 7;
constexpr int kSampleSize = 3;
constexpr unsigned int kSeed = 1;           // of ODE, which shuffles its constraints
constexpr double kIdleRate = 2000.0;        // Hz: how often a paused world looks around
constexpr std::chrono::milliseconds kIdle{20};  // how long a stopped Gazebo may be waited for
constexpr double kAsFastAsPossible = 0.0;

// Where a joint's axis is when all joints are at zero, and how the child is turned in the parent.
struct Zero {
  ignition::math::Vector3d point, direction;
  ignition::math::Quaterniond between;
};

struct Servo {
  gazebo::physics::JointPtr joint;
  double effort;     // N m or N at most
  double gain;       // 1/s, velocity asked for per position error
  double damping;    // N m s/rad or N s/m: force per missing velocity; 0 for all of the effort
  int leader;        // whose set points these are
  double multiplier;
  double offset;
};

class JointServer : public gazebo::ModelPlugin {
 public:
  void Load(gazebo::physics::ModelPtr model, sdf::ElementPtr) override {
    model_ = model;
    world_ = model->GetWorld();
    for (auto &link : model->GetLinks()) starts_.emplace_back(link, link->WorldPose());
    for (auto &joint : model->GetJoints())
      if (joint->DOF() == 1)
        zeros_[joint.get()] = {joint->Anchor(0), joint->GlobalAxis(0), Between(*joint)};
    // Without this a step would depend on what the constraints' forces were in the step before.
    world_->Physics()->SetParam("warm_start_factor", 0.0);
    node_.reset(new gazebo::transport::Node());
    node_->Init(world_->Name());
    const std::string prefix = "~/" + model->GetName();
    replies_ = node_->Advertise<Message>(prefix + "/reply", 10);
    requests_ = node_->Subscribe(prefix + "/request", &JointServer::OnRequest, this);
    begin_ = gazebo::event::Events::ConnectWorldUpdateBegin(
        [this](const gazebo::common::UpdateInfo &) { Drive(); });
    end_ = gazebo::event::Events::ConnectWorldUpdateEnd([this]() { Sample(); });
  }

 private:
  void OnRequest(const boost::shared_ptr<const Message> &request) {
    std::lock_guard<std::mutex> lock(mutex_);
    const std::string &text = request->model_name();
    const std::string kind = text.substr(0, text.find(' '));
    try {
      Require(!advancing_, "a period is being simulated");
      for (const auto &table : request->joint())
        for (double number : table.angle()) Require(std::isfinite(number), "a number is not finite");
      if (kind == "configure") {
        Configure(*request);
      } else if (kind == "advance") {
        Advance(*request);
        return;  // answered when it has been simulated
      } else if (kind == "reset" || kind == "place") {
        Put(*request, kind == "reset");
      } else if (kind == "rest") {
        rests_ = true;
      } else {
        Require(false, "it is neither configure, advance, reset, place nor rest");
      }
      BeginReply(text);
      AddSample();
      Answer();
    } catch (const std::invalid_argument &error) {
      Message refusal;
      const auto space = text.find(' ');
      const std::string number = space == std::string::npos ? "" : text.substr(space + 1);
      refusal.set_model_name("refused " + number + ": " + error.what());
      replies_->Publish(refusal, true);
    }
  }

  // --- what is asked for ---

  void Configure(const Message &request) {
    Require(!rests_, "configure comes before rest");
    Require(request.joint_size() == 3, "configure takes three tables");
    const Table &joints = request.joint(0), &followers = request.joint(1);
    const int count = joints.name_size();
    Require(count > 0 && count <= kMostJoints && joints.angle_size() == 3 * count,
            "joints must come with effort, gain and damping");
    Require(followers.name_size() <= kMostJoints && followers.angle_size() == 3 * followers.name_size(),
            "followers must come with leader, multiplier and offset");
    std::vector<Servo> servos;
    for (int i = 0; i < count; ++i) {
      const double *numbers = joints.angle().data() + 3 * i;
      for (int k = 0; k < 3; ++k) Require(numbers[k] >= 0.0, "a servo's numbers must not be negative");
      servos.push_back({Joint(joints.name(i)), numbers[0], numbers[1], numbers[2], i, 1.0, 0.0});
    }
    for (int i = 0; i < followers.name_size(); ++i) {
      const double *numbers = followers.angle().data() + 3 * i;
      Require(numbers[0] >= 0.0 && numbers[0] < count, "there is no such leader");
      Servo servo = servos[static_cast<int>(numbers[0])];
      servo.joint = Joint(followers.name(i));
      servo.multiplier = numbers[1];
      servo.offset = numbers[2];
      servos.push_back(servo);
    }
    std::vector<gazebo::physics::ModelPtr> objects;
    Require(request.joint(2).name_size() <= kMostObjects, "too many objects");
    for (const auto &name : request.joint(2).name()) objects.push_back(Object(name));
    servos_.swap(servos);
    objects_.swap(objects);
    commanded_ = count;
    set_points_.clear();
    now_ = world_->SimTime();
    TakeOverPoses();
    Pause();
  }

  // From now on Move(), not ODE, tells Gazebo where the bodies are.
  void TakeOverPoses() {
    bodies_.clear();
    auto models = objects_;
    models.push_back(model_);
    for (auto &model : models)
      for (auto &link : model->GetLinks())
        if (auto body = boost::dynamic_pointer_cast<gazebo::physics::ODELink>(link))
          if (body->GetODEId()) bodies_.push_back(body);
    for (auto &body : bodies_) dBodySetMovedCallback(body->GetODEId(), nullptr);
  }

  void Advance(const Message &request) {
    Require(commanded_ > 0, "configure comes first");
    Require(request.joint_size() == 1 && request.time_size() == 1, "advance takes one table and a time");
    const int numbers = request.joint(0).angle_size();
    const int rows = numbers / commanded_;
    Require(rows >= 2 && rows - 1 <= kMostSamples && rows * commanded_ == numbers,
            "set points must be rows of all joints, at least two");
    const double seconds = gazebo::msgs::Convert(request.time(0)).Double();
    step_ = world_->Physics()->GetMaxStepSize();
    const double steps = seconds / step_;
    Require(steps >= 0.5 && steps * (rows - 1) <= kMostSteps, "no or too many physics steps in a sample");
    steps_per_sample_ = std::lround(steps);
    Require(std::abs(steps - steps_per_sample_) < 1e-6 * steps, "a sample must be whole physics steps");
    set_points_.assign(request.joint(0).angle().begin(), request.joint(0).angle().end());
    last_ = steps_per_sample_ * (rows - 1);
    done_ = 0;
    BeginReply(request.model_name());
    advancing_ = true;
    world_->Physics()->SetRealTimeUpdateRate(kAsFastAsPossible);
    world_->SetPaused(false);
    asked_.notify_one();
  }

  void Put(const Message &request, bool all) {
    Require(commanded_ > 0, "configure comes first");
    Require(request.joint_size() == 2, "two tables are needed");
    const Table &joints = request.joint(0), &objects = request.joint(1);
    Require(joints.angle_size() == (all ? commanded_ : 0), "the positions must be the joints'");
    Require(objects.name_size() <= kMostObjects && objects.angle_size() == kPoseSize * objects.name_size(),
            "objects must come with a pose of seven numbers");
    std::vector<gazebo::physics::ModelPtr> models;
    for (const auto &name : objects.name()) models.push_back(Object(name));
    boost::recursive_mutex::scoped_lock lock(*world_->Physics()->GetPhysicsUpdateMutex());
    if (all) Restore(joints);
    for (size_t i = 0; i < models.size(); ++i) {
      const double *p = objects.angle().data() + kPoseSize * i;
      const Pose pose(p[0], p[1], p[2], p[6], p[3], p[4], p[5]);
      models[i]->SetWorldPose(pose * model_->WorldPose());
      Rest(models[i]);
    }
  }

  // As if nothing had been before, but for the time: what ODE keeps from step to step as well.
  void Restore(const Table &positions) {
    std::map<gazebo::physics::Joint *, double> moves;
    set_points_.clear();
    for (const Servo &servo : servos_)
      moves[servo.joint.get()] = servo.multiplier * positions.angle(servo.leader) + servo.offset;
    // Always from where the links were at first: joints that are turned back leave a rounding error.
    for (auto &[link, start] : starts_) {
      Pose pose = start;
      for (auto joints = link->GetParentJoints(); !joints.empty();
           joints = joints.front()->GetParent()->GetParentJoints()) {
        const auto move = moves.find(joints.front().get());
        if (move != moves.end()) pose = Moved(pose, *move->first, move->second);
        if (!joints.front()->GetParent()) break;  // fixed to the world
      }
      link->SetWorldPose(pose);
    }
    for (auto &joint : model_->GetJoints()) joint->Reset();  // ODE counts their turns
    Rest(model_);
    for (int row = 0; row < 2; ++row)
      set_points_.insert(set_points_.end(), positions.angle().begin(), positions.angle().end());
    steps_per_sample_ = last_ = done_ = 1;
    world_->Physics()->SetSeed(kSeed);
    fresh_ = true;
  }

  // Where a pose is taken by a joint that moves from zero, all joints before it at zero.
  Pose Moved(const Pose &pose, gazebo::physics::Joint &joint, double position) const {
    const Zero &zero = zeros_.at(&joint);
    if (joint.HasType(gazebo::physics::Base::SLIDER_JOINT))
      return Pose(pose.Pos() + position * zero.direction, pose.Rot());
    const ignition::math::Quaterniond turn(zero.direction, position);
    return Pose(zero.point + turn * (pose.Pos() - zero.point), turn * pose.Rot());
  }

  static void Rest(const gazebo::physics::ModelPtr &model) {
    model->ResetPhysicsStates();
    for (auto &link : model->GetLinks()) link->SetEnabled(true);
  }

  // --- in step with the world ---

  // A step begins. At rest it waits here until it is asked for: a paused world looks around, and has
  // the scene updated, as often as it is to notice soon that it goes on. But that is how the
  // renderer, at the start, comes to hear of the models.
  void Drive() {
    std::unique_lock<std::mutex> lock(mutex_);
    while (rests_ && !advancing_ && world_->Running()) asked_.wait_for(lock, kIdle);
    if (!advancing_) return;
    fresh_ = false;
    for (const Servo &servo : servos_) {
      const double before = SetPoint(servo, done_), after = SetPoint(servo, done_ + 1);
      const double error = before - Position(*servo.joint, before);
      const double wanted = (after - before) / step_ + servo.gain * error;
      const double missing = wanted - servo.joint->GetVelocity(0);
      double most = servo.effort;
      if (servo.damping > 0.0) most = std::min(most, servo.damping * std::abs(missing));
      servo.joint->SetParam("fmax", 0, most);
      servo.joint->SetParam("vel", 0, wanted);
    }
  }

  double SetPoint(const Servo &servo, long step) const {
    const long row = std::min(step, last_ - 1) / steps_per_sample_;
    const double part = static_cast<double>(step - row * steps_per_sample_) / steps_per_sample_;
    const double *numbers = set_points_.data() + row * commanded_ + servo.leader;
    return servo.multiplier * ((1.0 - part) * numbers[0] + part * numbers[commanded_]) + servo.offset;
  }

  void Sample() {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!advancing_) return;
    ++done_;
    now_ = world_->SimTime();
    Move(done_ == last_);
    if (done_ % steps_per_sample_ == 0) AddSample();
    if (done_ < last_) return;
    advancing_ = false;
    if (!rests_) Pause();
    Answer();
  }

  void Pause() {
    world_->SetPaused(true);
    world_->Physics()->SetRealTimeUpdateRate(kIdleRate);
  }

  // Tell the links where their bodies are, and the renderer only when pictures may be taken: moving
  // what it draws costs more than the step, as it writes each pose into a text.
  void Move(bool shown) {
    boost::recursive_mutex::scoped_lock lock(*world_->Physics()->GetPhysicsUpdateMutex());
    for (auto &body : bodies_) {
      const dReal *p = dBodyGetPosition(body->GetODEId()), *q = dBodyGetQuaternion(body->GetODEId());
      const ignition::math::Quaterniond rotation(q[0], q[1], q[2], q[3]);
      const ignition::math::Vector3d centre(p[0], p[1], p[2]);
      const auto position = centre - rotation.RotateVector(body->GetInertial()->CoG());
      body->SetWorldPose(Pose(position, rotation), false, shown);
    }
  }

  // --- what is answered ---

  void BeginReply(const std::string &text) {
    reply_.Clear();
    reply_.set_model_name(text);
    reply_.add_joint();
  }

  void AddSample() {
    gazebo::msgs::Set(reply_.add_time(), now_);
    Table *table = reply_.mutable_joint(0);
    for (int i = 0; i < commanded_; ++i) {
      auto &joint = *servos_[i].joint;
      table->add_angle(Position(joint, set_points_.empty() ? 0.0 : SetPoint(servos_[i], done_)));
      table->add_angle(joint.GetVelocity(0));
      table->add_angle(fresh_ ? 0.0 : Effort(joint));
    }
  }

  void Answer() {
    Table *table = reply_.add_joint();
    for (auto &object : objects_) {
      const auto pose = object->WorldPose() - model_->WorldPose();
      table->add_name(object->GetName());
      for (double number : {pose.Pos().X(), pose.Pos().Y(), pose.Pos().Z(), pose.Rot().X(),
                            pose.Rot().Y(), pose.Rot().Z(), pose.Rot().W()})
        table->add_angle(number);
    }
    replies_->Publish(reply_, true);  // at once: from its own thread nobody wakes the transport
  }

  // From the links' poses alone: ODE sums up an angle's changes, and with them rounding errors.
  // Of angles that look the same the one nearest to ``expected``.
  double Position(gazebo::physics::Joint &joint, double expected) const {
    if (joint.HasType(gazebo::physics::Base::SLIDER_JOINT)) return joint.Position(0);
    const auto turn = zeros_.at(&joint).between.Inverse() * Between(joint);
    const auto axis = joint.LocalAxis(0);
    const double angle =
        2.0 * std::atan2(axis.Dot({turn.X(), turn.Y(), turn.Z()}), turn.W());
    return angle + 2.0 * M_PI * std::round((expected - angle) / (2.0 * M_PI));
  }

  static ignition::math::Quaterniond Between(gazebo::physics::Joint &joint) {
    const auto child = joint.GetChild()->WorldPose().Rot();
    return joint.GetParent() ? joint.GetParent()->WorldPose().Rot().Inverse() * child : child;
  }

  // What the motor gave in the last step: against it is the joint's reaction along its axis.
  static double Effort(gazebo::physics::Joint &joint) {
    const auto wrench = joint.GetForceTorque(0);
    const bool slides = joint.HasType(gazebo::physics::Base::SLIDER_JOINT);
    return -joint.LocalAxis(0).Dot(slides ? wrench.body2Force : wrench.body2Torque);
  }

  // --- checks ---

  static void Require(bool good, const std::string &why) {
    if (!good) throw std::invalid_argument(why);
  }

  gazebo::physics::JointPtr Joint(const std::string &name) const {
    auto joint = model_->GetJoint(name);
    Require(joint && joint->DOF() == 1, "there is no moving joint " + name);
    joint->SetProvideFeedback(true);
    return joint;
  }

  gazebo::physics::ModelPtr Object(const std::string &name) const {
    auto model = world_->ModelByName(name);
    Require(model && model != model_, "there is no object " + name);
    return model;
  }

  gazebo::physics::ModelPtr model_;
  gazebo::physics::WorldPtr world_;
  std::vector<std::pair<gazebo::physics::LinkPtr, Pose>> starts_;  // joints at zero
  std::map<gazebo::physics::Joint *, Zero> zeros_;
  gazebo::transport::NodePtr node_;
  gazebo::transport::PublisherPtr replies_;
  gazebo::transport::SubscriberPtr requests_;
  gazebo::event::ConnectionPtr begin_, end_;

  std::mutex mutex_;  // guards what follows, between transport and world
  std::condition_variable asked_;
  std::vector<gazebo::physics::ODELinkPtr> bodies_;
  std::vector<Servo> servos_;  // the commanded ones, then their followers
  std::vector<gazebo::physics::ModelPtr> objects_;
  int commanded_ = 0;
  bool advancing_ = false;
  bool rests_ = false;  // between two requests, in the midst of a step
  bool fresh_ = false;  // no step was made since a reset
  std::vector<double> set_points_;
  gazebo::common::Time now_;  // of the last step; the world's is that of the step which waits
  double step_ = 0.0;
  long steps_per_sample_ = 1, last_ = 0, done_ = 0;
  Message reply_;
};

GZ_REGISTER_MODEL_PLUGIN(JointServer)

}  // namespace rl_robot
